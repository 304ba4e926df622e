"""What settings do to what a LoRA learns and forgets, on the tiny FLUX.2: `python -m benchmarks.quality`.

Each row is a task and settings, trained with several seeds and scored by pixel rules on held-out prompts: the share
that shows what was taught, and the share of ordinary prompts that are still drawn correctly. Rows that the file already
has are not run again, so that a stopped run goes on where it was. About 25 s of one core for a row and a seed.
`scripts/write_quality_docs.py` writes docs/quality.md from the results. Runs are in fp32. Rows under `in_bf16` in the
file were trained with products in bf16: no seeds are added to them; to measure such a row again, take it out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import quality_real
from benchmarks.quality_rows import ROWS
from benchmarks.quality_run import Bench
from benchmarks.quality_tasks import NUM_PROMPTS, ROOT, TASKS
from benchmarks.setting import setting
from toolkit.files import write_json

RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
SEEDS = (1, 2, 3, 4, 5)


def main() -> None:
    """Run the rows that are missing, and write each result at once."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    found = {**setting(on_card=False), "prompts": NUM_PROMPTS, "base": {}, "in_bf16": [], "rows": {}, **found}
    for path in options.add:
        _add(found, json.loads(path.read_text("utf-8")))
    rows = [row for row in ROWS if row.key not in found["in_bf16"] and any(text in row.key for text in options.rows)]
    missing = [(row, seed) for seed in options.seeds for row in rows if str(seed) not in found["rows"].get(row.key, {})]
    until = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(options.work or Path(temporary))
        for task in (task for task in TASKS if task not in found["base"]):
            found["base"][task] = bench.base(task)
            write_json(options.out, found)
        for row, seed in missing:
            if time.monotonic() > until:
                break
            scores = bench.run(row, seed=seed)
            found["rows"].setdefault(row.key, {})[str(seed)] = scores
            write_json(options.out, found)
            print(row.key, seed, scores, flush=True)
    write_json(options.out, found)


def _add(found: dict[str, Any], more: dict[str, Any]) -> None:
    found["base"] |= more["base"]
    for key, scores in more["rows"].items():
        found["rows"].setdefault(key, {}).update(scores)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file for the results (default: %(default)s)")
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="results of other processes to take in first")
    parser.add_argument("--rows", nargs="*", default=[""], help="only rows whose name contains one of these texts")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS, help="seeds of the training (default: 1 to 5)")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after this time; the next goes on")
    parser.add_argument("--work", type=Path, help="keep the pictures and their encodings in this folder between starts")
    return parser


if __name__ == "__main__":
    quality_real.main([own for own in sys.argv[1:] if own != "--real"]) if "--real" in sys.argv else main()
