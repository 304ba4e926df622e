"""All figures of a CUDA card, with random weights: `python -m benchmarks.gpu`, or `make bench-gpu`.

Each call ends after nine minutes or little more, and the next one goes on where it stopped: what a file in
`benchmarks/results/<card>/` holds is not measured again. Delete the folder to measure anew.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
# In this order; each takes `--out`, and the first one goes on with the cells that its file lacks.
RUNS: dict[str, tuple[str, ...]] = {
    "step": ("benchmarks.step",),
    "compute": ("benchmarks.compute", "--device", "cuda"),
    "offload": ("benchmarks.offload", "--heads", "24", "--double", "5", "--single", "20", "--side", "1024"),
    "whole_run": ("benchmarks.whole_run",),
    "adapters": ("benchmarks.adapters", "--size", "flux2_klein_4b"),
}
GOES_ON = "step"


def folder_name(card: str) -> str:
    """A card as torch names it, in a word: `NVIDIA H100 80GB HBM3` is `h100`, `NVIDIA GeForce RTX 4090` `rtx-4090`."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", card) if word.upper() not in ("NVIDIA", "GEFORCE", "TESLA")]
    last = next((index for index, word in enumerate(words) if re.search(r"\d", word)), len(words) - 1)
    return "-".join(words[: last + 1]).lower()


def main() -> int:
    """Measure what is missing. Returns the exit code: 1 without a card, or if something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="begin nothing after this (default: %(default)s)")
    end = time.monotonic() + 60 * parser.parse_args().minutes
    import torch

    if not torch.cuda.is_available():
        print("These figures need a CUDA card, and torch sees none here. Without one: make bench", file=sys.stderr)
        return 1
    folder = RESULTS / folder_name(torch.cuda.get_device_name())
    folder.mkdir(exist_ok=True)
    failed = []
    for name, command in RUNS.items():
        out, left = folder / f"{name}.json", (end - time.monotonic()) / 60
        if out.exists() and name != GOES_ON:
            continue
        if left <= 0:
            print(f"stopped before {name}: the same call goes on with it")
            break
        limit = ("--minutes", f"{left:.1f}") if name == GOES_ON else ()
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", *command, "--out", str(out), *limit], check=False).returncode:
            failed.append(name)
    print(f"results are in {folder}" + (f"; not measured: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
