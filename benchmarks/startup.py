"""Where the time of a start goes, with warm caches: `python -m benchmarks.startup --out FILE`.

A job with the tiny model runs for one step, once to fill the caches and then several times. Each part is given in
processor time, which other programs on the machine do not change.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.small_job import write_small_job

ROOT = Path(__file__).resolve().parents[1]
SIDE_PX, NUM_IMAGES, ROUNDS = 128, 4, 5
CHILD = "from benchmarks.startup import run_timed; run_timed()"
# The end of each part, in order: an event, its name or state.
PARTS = {
    "Python, the command line, reading the job file": ("stage", "check", "started"),
    "check": ("stage", "check", "done"),
    "torch": ("import", "torch", "done"),
    "diffusers, the trainer, the output folder": ("stage", "encode text", "started"),
    "texts and images, from the caches": ("stage", "train", "started"),
    "transformer, LoRA, optimizer, first step": ("step", None, None),
    "saving": ("checkpoint", None, "written"),
}


def run_timed() -> None:
    """Run the job named on the command line, and print what processor time had passed at each event."""
    import run
    from jobs.job import Job
    from toolkit.output import events

    seen: list[tuple[str, Any, Any, float]] = []

    def note(kind: str, name: Any, state: Any) -> None:
        seen.append((kind, name, state, time.process_time()))

    append, write, prepare = events.append_event, events.EventLog.write, Job._run_process

    def noted_append(path: Path, kind: Any, **values: Any) -> None:
        note(kind, values.get("name"), values.get("state"))
        append(path, kind, **values)

    def noted_write(log: Any, kind: Any, **values: Any) -> None:
        note(kind, values.get("name"), values.get("state"))
        write(log, kind, **values)

    def noted_process(*arguments: Any) -> None:
        import torch  # noqa: F401  (here it would be imported anyway)

        note("import", "torch", "done")
        prepare(*arguments)

    sys.modules["jobs.job"].append_event = noted_append  # type: ignore[attr-defined]
    events.EventLog.write = noted_write  # type: ignore[method-assign, assignment]
    Job._run_process = noted_process  # type: ignore[method-assign, assignment]
    code = run.main(sys.argv[1:])
    print("SEEN", json.dumps(seen))
    sys.exit(code)


def measure(folder: Path) -> dict[str, float]:
    """The seconds of each part of one start, and of all until the first step."""
    output = folder / "output"
    if output.exists():
        output.rename(folder / f"old {time.monotonic_ns()}")
    command = [sys.executable, "-c", CHILD, str(folder / "case.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout.rpartition("SEEN ")[2])
    ends = {
        part: next(
            at
            for kind, name, state, at in seen
            if kind == end[0] and end[1] in (None, name) and end[2] in (None, state)
        )
        for part, end in PARTS.items()
    }
    before, parts = 0.0, {}
    for part, at in ends.items():
        parts[part], before = at - before, at
    return {**parts, "to the first step": ends["transformer, LoRA, optimizer, first step"]}


def main() -> None:
    """Run the rounds, print the table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_CACHE_HOME"] = str(Path(temporary) / "cache")
        folder = Path(temporary)
        dataset = {
            "folder_path": str(folder / "images"),
            "resolution": SIDE_PX,
            "cache_latents_to_disk": True,
            "cache_text_embeddings": True,
        }
        write_small_job(
            folder,
            {},
            side_px=SIDE_PX,
            num_images=NUM_IMAGES,
            model={"arch": "flux2_tiny", "name_or_path": str(ROOT / "assets" / "flux2_tiny")},
            train={"steps": 1, "dtype": "fp32", "disable_sampling": True},
            datasets=[dataset],
        )
        cold, *warm = [measure(folder) for _ in range(ROUNDS + 1)]
    median = {part: round(statistics.median(found[part] for found in warm), 2) for part in warm[0]}
    spread = round(
        max(found["to the first step"] for found in warm) - min(found["to the first step"] for found in warm), 2
    )
    from benchmarks.setting import setting
    from toolkit.files import write_json

    results = {
        **setting(on_card=False),
        "parts_s": median,
        "spread_s": spread,
        "cold_s": round(cold["to the first step"], 2),
    }
    print(json.dumps(results, indent=2))
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()
