"""Our LoRA step beside the plain one of diffusers and peft on a CPU: `python -m benchmarks.lean --out FILE`.

Arms take turns, step by step, in one process; figures are medians of the processor time of a step, and of the ratio of
the two in each turn. Memory is the peak of a process of its own that makes a few steps. Beside each speed stands how
far loss and gradients are from those in fp32.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.counts import Operators, count_flops, count_kept, floor_of
from benchmarks.lean_arms import CPU, RANK, SIZES, Arm, Size, equalize, ours, parity, plain
from benchmarks.setting import setting
from toolkit.files import write_json
from toolkit.runtime.devices import product_dtype

WARM_UP, RSS_STEPS = 2, 3
TURNS = {"tiny": 40, "small": 10, "mid": 5}
CLASSES = {"kept": False, "recomputed": True}  # whether the blocks recompute
ARMS: dict[str, Callable[..., Arm]] = {"ours": ours, "plain": plain}


def compare(size: Size, *, recomputes: bool, dtype: torch.dtype) -> dict[str, Any]:
    """Times and parity of both arms."""
    arms = {name: make(size, recomputes=recomputes, dtype=dtype) for name, make in ARMS.items()}
    exact = plain(size, recomputes=False, dtype=torch.float32)
    equalize([*arms.values(), exact])
    row: dict[str, Any] = {"bf16_products": product_dtype(CPU, torch.bfloat16) == torch.bfloat16}
    row |= {f"{name}_parity": _rounded(parity(arm, exact)) for name, arm in arms.items()}
    row |= {f"{name}_counts": counts(size, arm) for name, arm in arms.items()}
    del exact
    times: dict[str, list[float]] = {name: [] for name in arms}
    order = random.Random(0)
    for turn in range(WARM_UP + TURNS[size.name]):
        for name in order.sample(sorted(arms), len(arms)):
            begin = time.process_time()
            arms[name].step(turn)
            if turn >= WARM_UP:
                times[name].append(time.process_time() - begin)
    for name, own in times.items():
        row[f"{name}_s"] = round(statistics.median(own), 4)
    row["speedup"] = round(statistics.median(b / a for a, b in zip(times["ours"], times["plain"], strict=True)), 3)
    return row


def counts(size: Size, arm: Arm) -> dict[str, float]:
    """Products of a pass over the floor, operators of a pass, and residual streams that a block keeps on average."""
    transformer = arm.transformer
    floor = floor_of(transformer, rank=RANK, num_text=size.num_text, num_image=size.side**2)
    flops = count_flops(arm.gradients) / floor.total
    with Operators() as seen:
        arm.gradients()
    kept, _ = count_kept(arm.predict, shared=[*transformer.parameters(), *transformer.buffers()])
    config = transformer.config
    stream = (size.num_text + size.side**2) * config.num_attention_heads * config.attention_head_dim * 2
    blocks = config.num_layers + config.num_single_layers
    return {
        "flops_over_floor": round(flops, 3),
        "operators": seen.total,
        "kept_streams_per_block": round(kept / stream / blocks, 2),
    }


def peak_bytes(size: str, arm: str, *, recomputes: bool, dtype: str) -> int:
    """Peak memory of a process that makes a few steps."""
    options = ["--peak", arm, "--sizes", size, "--dtype", dtype, *(["--recomputes"] if recomputes else [])]
    done = subprocess.run([sys.executable, "-m", __spec__.name, *options], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def _print_peak(arm: str, size: Size, *, recomputes: bool, dtype: torch.dtype) -> None:
    step = ARMS[arm](size, recomputes=recomputes, dtype=dtype).step
    for index in range(RSS_STEPS):
        step(index)
    # The peak of this program alone: `getrusage` begins with what the process had before it became this program.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) * 1024)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.2g}") for name, value in values.items()}


def main() -> None:
    """Measure all sizes and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--peak", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--recomputes", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    dtype = torch.bfloat16 if arguments.dtype == "bf16" else torch.float32
    if arguments.peak:
        _print_peak(arguments.peak, SIZES[arguments.sizes[0]], recomputes=arguments.recomputes, dtype=dtype)
        return
    torch.set_num_threads(1)
    results: dict[str, Any] = {**setting(on_card=False), "dtype": arguments.dtype, "rows": {}}
    for name in arguments.sizes:
        for kind, recomputes in CLASSES.items():
            row = compare(SIZES[name], recomputes=recomputes, dtype=dtype)
            for arm in ARMS if name != "tiny" else ():
                row[f"{arm}_bytes"] = peak_bytes(name, arm, recomputes=recomputes, dtype=arguments.dtype)
            if "ours_bytes" in row:
                row["memory"] = round(row["ours_bytes"] / row["plain_bytes"], 3)
            results["rows"][f"{name} {kind}"] = row
            print(name, kind, json.dumps(row), flush=True)
            if arguments.out:
                write_json(arguments.out, results)


if __name__ == "__main__":
    main()
