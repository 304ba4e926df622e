"""Our LoRA step beside others on a CPU: `python -m benchmarks.lean --out FILE`.

The others are a plain loop of diffusers and peft, either with torch's compiler, ours with products in int8, and
musubi-tuner's, if `MUSUBI_TUNER` names a checkout of it. Arms take turns, step by step, in one process; figures are
medians of the processor time of a step, and of the ratio of two arms in each turn. Memory is the peak of a process of
its own that makes two steps. Beside each speed stands how far loss and gradients are from those of the plain loop in
fp32. A file that exists keeps the rows that are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.counts import Operators, count_flops, count_kept, floor_of
from benchmarks.lean_arms import Arm, equalize, ours, parity, plain
from benchmarks.lean_sizes import CPU, SIZES, Size
from benchmarks.musubi import VARIABLE, musubi
from benchmarks.setting import setting
from toolkit.compute.compiler import Compiler
from toolkit.errors import UserError
from toolkit.files import write_json
from toolkit.runtime.devices import product_dtype

WARM_UP, RSS_STEPS = 1, 2
TURNS = {"tiny": 20, "small": 4, "mid": 2}
PARTS = ("times", "memory")
CLASSES = {"kept": False, "recomputed": True}  # whether the blocks recompute
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
PLAIN, INT8, MUSUBI = "plain", "ours int8", "musubi-tuner"
COMPILED = ("ours compiled", "plain compiled")
ARMS: dict[str, Callable[..., Arm]] = {
    "ours": ours,
    INT8: partial(ours, compute="int8"),
    PLAIN: plain,
    COMPILED[0]: lambda *size, **how: ours(*size, **how, compiler=Compiler(notify=print, warn=print)),
    COMPILED[1]: partial(plain, is_compiled=True),
    MUSUBI: musubi,
}
COUNTED = ("ours", PLAIN)  # products in int8, and those of a compiled program, are not counted
# (size, class) -> what is measured beside ours. `mid` takes too long for more.
ROWS: dict[tuple[str, str], tuple[str, ...]] = {
    ("tiny", "kept"): (PLAIN, *COMPILED),
    ("tiny", "recomputed"): (PLAIN,),
    ("small", "kept"): (PLAIN,),
    ("small", "recomputed"): (PLAIN,),
    ("mid", "kept"): (INT8,),
}


def dtypes_of(size: str) -> tuple[str, ...]:
    """What a size is measured in: bf16, which is what jobs default to, if the CPU multiplies it; else fp32.

    Without such products a plain step of `small` in bf16 takes minutes. `tiny` is small enough for both.
    """
    if size == "tiny":
        return tuple(DTYPES)
    return ("bf16",) if has_bf16_products() else ("fp32",)


def arms_of(size: str, kind: str, dtype: str) -> list[str]:
    """What a row measures; compiled blocks only in a dtype that this CPU multiplies."""
    others = [arm for arm in ROWS[size, kind] if arm not in COMPILED or dtype == "fp32" or has_bf16_products()]
    return ["ours", *others, *([MUSUBI] if os.environ.get(VARIABLE) and PLAIN in others else [])]


def has_bf16_products() -> bool:
    """Whether this CPU multiplies bf16, rather than number by number."""
    return product_dtype(CPU, torch.bfloat16) == torch.bfloat16


def compare(size: Size, names: Sequence[str], *, recomputes: bool, dtype: torch.dtype) -> dict[str, dict[str, Any]]:
    """Times, parity and counts of each arm, `ours` first among them."""
    arms = {name: ARMS[name](size, recomputes=recomputes, dtype=dtype) for name in names}
    exact = plain(size, recomputes=False, dtype=torch.float32)
    equalize([*arms.values(), exact])
    wanted = exact.gradients()
    del exact
    row: dict[str, dict[str, Any]] = {}
    for name, arm in arms.items():
        begin = time.process_time()
        row[name] = {"parity": _rounded(parity(arm, wanted))}
        if name in COMPILED:
            row[name]["first_pass_s"] = round(time.process_time() - begin, 1)
        if name in COUNTED and size.name != "mid":  # as those of `small`
            row[name]["counts"] = counts(size, arm, dtype)
    times: dict[str, list[float]] = {name: [] for name in arms}
    order = random.Random(0)
    for turn in range(WARM_UP + TURNS[size.name]):
        for name in order.sample(sorted(arms), len(arms)):
            begin = time.process_time()
            arms[name].step(turn)
            if turn >= WARM_UP:
                times[name].append(time.process_time() - begin)
    for name, own in times.items():
        row[name]["s"] = round(statistics.median(own), 4)
        row[name]["times_faster_than"] = {
            other: round(statistics.median(b / a for a, b in zip(own, others, strict=True)), 3)
            for other, others in times.items()
            if other != name
        }
    return row


def counts(size: Size, arm: Arm, dtype: torch.dtype) -> dict[str, float]:
    """Products of a pass over the floor, operators of a pass, and residual streams that a block keeps on average."""
    transformer = arm.transformer
    floor = floor_of(transformer, rank=size.rank, num_text=size.num_text, num_image=size.side**2)
    flops = count_flops(arm.gradients) / floor.total
    with Operators() as seen:
        arm.gradients()
    kept, _ = count_kept(arm.predict, shared=[*transformer.parameters(), *transformer.buffers()])
    config = transformer.config
    stream = (size.num_text + size.side**2) * config.num_attention_heads * config.attention_head_dim * dtype.itemsize
    blocks = config.num_layers + config.num_single_layers
    return {
        "flops_over_floor": round(flops, 3),
        "operators": seen.total,
        "kept_streams_per_block": round(kept / stream / blocks, 2),
    }


def peak_bytes(size: str, arm: str, *, recomputes: bool, dtype: str) -> int:
    """Peak memory of a process that makes a few steps."""
    options = ["--peak", arm, "--sizes", size, "--dtypes", dtype, *(["--recomputes"] if recomputes else [])]
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


def _row(
    size: Size, arms: Sequence[str], parts: Sequence[str], *, recomputes: bool, dtype: str
) -> dict[str, dict[str, Any]]:
    row: dict[str, dict[str, Any]] = {arm: {} for arm in arms}
    if "times" in parts:
        row = compare(size, arms, recomputes=recomputes, dtype=DTYPES[dtype])
    if "memory" in parts and size.name != "tiny":
        for arm in arms:
            row[arm]["bytes"] = peak_bytes(size.name, arm, recomputes=recomputes, dtype=dtype)
    return row


def main() -> int:
    """Measure the rows and write the figures. Returns the exit code: 1 if an arm cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--classes", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="default: what this CPU multiplies; both of `tiny`")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="default: depends on the size")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="memory is not measured of `tiny`")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--peak", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--recomputes", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        inner = DTYPES[arguments.dtypes[0]]
        _print_peak(arguments.peak, SIZES[arguments.sizes[0]], recomputes=arguments.recomputes, dtype=inner)
        return 0
    torch.set_num_threads(1)
    results: dict[str, Any] = {"rows": {}}
    if arguments.out and arguments.out.exists():
        results = json.loads(arguments.out.read_text(encoding="utf-8"))
    results |= setting(on_card=False)
    for size, kind in ROWS:
        if size not in arguments.sizes or kind not in arguments.classes:
            continue
        for dtype in arguments.dtypes or dtypes_of(size):
            arms = arguments.arms or arms_of(size, kind, dtype)
            row = results["rows"].setdefault(f"{size} {kind} {dtype}", {"steps": {}})
            row["bf16_products"] = has_bf16_products()
            try:
                found = _row(SIZES[size], arms, arguments.parts, recomputes=CLASSES[kind], dtype=dtype)
            except UserError as error:
                print(error, file=sys.stderr)
                return 1
            for arm in arms:
                row["steps"][arm] = row["steps"].get(arm, {}) | found[arm]
            print(size, kind, dtype, json.dumps(found), flush=True)
            if arguments.out:
                write_json(arguments.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
