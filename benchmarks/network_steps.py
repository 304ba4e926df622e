"""What a step costs with each kind of network, beside a LoRA of rank 16: `python -m benchmarks.network_steps`.

Whole steps of a job on a CPU: forward, backward, clipping and AdamW. A kind and the LoRA take turns in one process; the
figure is the median of the ratio of their processor times in each turn. Kinds that the file already has are measured
again only if they are named. On `mid`, six pairs of steps take two minutes of a core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.lean_arms import job_step
from benchmarks.lean_sizes import SIZES, Size
from benchmarks.quality_rows import NETWORK_KINDS
from benchmarks.setting import setting
from toolkit.files import write_json

RESULTS = Path(__file__).parent / "results" / "network_steps.json"
WARM_UP = 1


def compare(size: Size, kind: str, *, turns: int) -> dict[str, Any]:
    """Seconds of a step with a kind, a key of `NETWORK_KINDS`, and with the LoRA, and the ratio in each turn."""
    settings, _ = NETWORK_KINDS[kind]
    steps = {
        name: job_step(size, recomputes=False, dtype=torch.float32, settings=own)[1]
        for name, own in (("lora", {}), ("own", settings))
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(WARM_UP + turns):
        for name in sorted(steps, reverse=turn % 2 == 1):
            begin = time.process_time()
            steps[name](turn)
            times[name].append(time.process_time() - begin)
    kept = {name: own[WARM_UP:] for name, own in times.items()}
    ratios = [own / lora for own, lora in zip(kept["own"], kept["lora"], strict=True)]
    return {
        "lora_s": round(statistics.median(kept["lora"]), 3),
        "own_s": round(statistics.median(kept["own"]), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
    }


def main() -> None:
    """Measure the kinds that are named, and write each at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--kinds", nargs="+", choices=NETWORK_KINDS, default=["lokr", "lokr, factor 4"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file for the figures (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    found = {**setting(on_card=False), "dtype": "fp32", "blocks": "kept", "sizes": {}, **found}
    rows = found["sizes"].setdefault(options.size, {})
    for kind in options.kinds:
        rows[kind] = compare(SIZES[options.size], kind, turns=options.turns)
        print(options.size, kind, json.dumps(rows[kind]), flush=True)
        write_json(options.out, found)


if __name__ == "__main__":
    main()
