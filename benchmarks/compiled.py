"""Our LoRA step with `model.compile` beside the same without, on a CPU: `python -m benchmarks.compiled --out FILE`.

Both take turns, step by step, in one process; figures are medians of the processor time of a step, and of the ratio of
the two in each turn. Beside them stand how many programs were made, how many more for other sizes of image, and the
time of the first step with nothing kept from an earlier start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.lean import CLASSES, WARM_UP
from benchmarks.lean_arms import equalize, ours, parity, plain
from benchmarks.lean_sizes import SIZES
from benchmarks.setting import setting
from toolkit.compute.compiler import Compiler
from toolkit.files import write_json

TURNS = 8
SIDES = (8, 12, 20)  # tokens along a side, of other sizes of image


def compare(*, recomputes: bool, dtype: torch.dtype) -> dict[str, Any]:
    """Times, parity and counts of `small`."""
    from torch._dynamo.utils import counters

    size, said = SIZES["small"], list[str]()
    torch.compiler.reset()
    counters.clear()
    compiler = Compiler(notify=lambda line: None, warn=said.append)
    arms = {
        "compiled": ours(size, recomputes=recomputes, dtype=dtype, compiler=compiler),
        "plain": ours(size, recomputes=recomputes, dtype=dtype),
    }
    exact = plain(size, recomputes=False, dtype=torch.float32)
    equalize([*arms.values(), exact])
    wanted = exact.gradients()
    row: dict[str, Any] = {}
    begin = time.monotonic()
    row |= {f"{name}_parity": _rounded(parity(arm, wanted)) for name, arm in arms.items()}
    row["first_step_s"] = round(time.monotonic() - begin, 1)
    row["programs"] = counters["stats"]["unique_graphs"]
    del exact
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(WARM_UP + TURNS):
        for name in sorted(arms, reverse=turn % 2 == 1):
            begin = time.process_time()
            arms[name].step(turn)
            if turn >= WARM_UP:
                times[name].append(time.process_time() - begin)
    for name, own in times.items():
        row[f"{name}_s"] = round(statistics.median(own), 4)
    pairs = zip(times["compiled"], times["plain"], strict=True)
    row["speedup"] = round(statistics.median(b / a for a, b in pairs), 3)
    before = counters["stats"]["unique_graphs"]
    for side in SIDES:
        other = replace(size, side=side)
        ours(other, recomputes=recomputes, dtype=dtype, compiler=compiler).step(0)
    row["programs_of_other_sizes"] = counters["stats"]["unique_graphs"] - before
    assert not said, said
    return row


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.2g}") for name, value in values.items()}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {**setting(on_card=False), "dtype": "bf16", "rows": {}}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        for kind, recomputes in CLASSES.items():
            row = compare(recomputes=recomputes, dtype=torch.bfloat16)
            results["rows"][f"small {kind}"] = row
            print(kind, json.dumps(row), flush=True)
            if arguments.out:
                write_json(arguments.out, results)


if __name__ == "__main__":
    main()
