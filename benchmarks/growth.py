"""How the time of our step grows with tokens, batch, rank and references, on a CPU: `python -m benchmarks.growth`.

Each cell changes one thing of a step of `small`. All cells take a step in each turn, in random order; figures are
medians of the processor time of a step, and of its ratio to the unchanged step of the same turn. Blocks keep what their
backward pass needs.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.lean import DTYPES, dtypes_of
from benchmarks.lean_arms import ours
from benchmarks.lean_sizes import SIZES, Size
from benchmarks.setting import setting
from toolkit.files import write_json

WARM_UP, TURNS = 1, 5
BASE = replace(SIZES["small"], side=12, num_text=64)
# What changes -> the sizes in its place.
CELLS: dict[str, list[Size]] = {
    "image": [replace(BASE, side=side) for side in (8, 16, 24)],
    "batch": [replace(BASE, batch=batch) for batch in (2, 4)],
    "rank": [replace(BASE, rank=rank) for rank in (4, 64, 256)],
    "references": [replace(BASE, references=count) for count in (1, 2)],
}


def num_tokens(size: Size) -> int:
    """Tokens of a step: of text, image and references of all samples."""
    return size.batch * (size.num_text + size.side**2 * (1 + size.references))


def measure(sizes: Mapping[str, Size], dtype: torch.dtype) -> dict[str, dict[str, Any]]:
    """Time of a step of each size, and its ratio to that of the first."""
    steps = {name: ours(size, recomputes=False, dtype=dtype).step for name, size in sizes.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(0)
    for turn in range(WARM_UP + TURNS):
        for name in order.sample(list(steps), len(steps)):
            begin = time.process_time()
            steps[name](turn)
            if turn >= WARM_UP:
                times[name].append(time.process_time() - begin)
    base = next(iter(times.values()))
    return {
        name: {
            "tokens": num_tokens(sizes[name]),
            "rank": sizes[name].rank,
            "s": round(statistics.median(own), 4),
            "times_base": round(statistics.median(one / other for one, other in zip(own, base, strict=True)), 3),
        }
        for name, own in times.items()
    }


def named_sizes() -> dict[str, Size]:
    """Each cell by name, the unchanged one first."""
    sizes = {f"{BASE.side**2} tokens of image, {BASE.num_text} of text, batch 1, rank {BASE.rank}": BASE}
    for size in CELLS["image"]:
        sizes[f"{size.side**2} tokens of image"] = size
    for kind in ("batch", "rank", "references"):
        sizes |= {f"{kind} {getattr(size, kind)}": size for size in CELLS[kind]}
    return sizes


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (dtype,) = dtypes_of(BASE.name)
    cells = measure(named_sizes(), DTYPES[dtype])
    for name, cell in cells.items():
        print(name, cell, flush=True)
    if arguments.out:
        write_json(arguments.out, {**setting(on_card=False), "dtype": dtype, "cells": cells})


if __name__ == "__main__":
    main()
