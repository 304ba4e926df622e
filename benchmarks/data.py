"""First and second start on thousands of images, and the time per step: `python -m benchmarks.data --out FILE`.

Photos of 768 x 512 pixels, as JPEG files of about 100 kB, are trained at 64 x 64 pixels with the tiny model, since what
is measured is all but the model: the scan, the caches and the batches.
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

import yaml
from PIL import Image

from benchmarks.setting import setting
from toolkit.files import write_json
from toolkit.output.events import read_events

ROOT = Path(__file__).resolve().parents[1]
STEPS, SIDE_PX, NUM_PHOTOS = 60, 64, 16


def write_images(folder: Path, count: int) -> None:
    """Write photos with captions; their files all differ, and are as hard to decode as any."""
    folder.mkdir(parents=True)
    photos = []
    for number in range(NUM_PHOTOS):
        path = folder / f"photo{number}.jpg"
        noise = Image.effect_noise((96, 64), 90).resize((768, 512)).convert("RGB")
        Image.blend(noise, Image.effect_noise((768, 512), 60).convert("RGB"), 0.3).save(path, quality=80)
        photos.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        # What follows the end of a JPEG is not decoded.
        (folder / f"{number:05d}.jpg").write_bytes(photos[number % NUM_PHOTOS] + number.to_bytes(8, "little"))
        (folder / f"{number:05d}.txt").write_text(f"a photo, number {number}, of {number % 7} things", encoding="utf-8")


def run(folder: Path, name: str, images: Path, *, stop_after_s: float | None = None) -> dict[str, Any]:
    """Start a job, and read its figures from its event log.

    Args:
        folder: where the job and its output are written.
        name: its name.
        images: the folder of its images.
        stop_after_s: interrupt it so long after its first stage has begun.
    """
    dataset = {
        "folder_path": str(images),
        "resolution": SIDE_PX,
        "cache_latents_to_disk": True,
        "cache_text_embeddings": True,
    }
    process = {
        "type": "sd_trainer",
        "training_folder": str(folder / "output"),
        "device": "cpu",
        "network": {"type": "lora", "linear": 4},
        "datasets": [dataset],
        "train": {"steps": STEPS, "dtype": "fp32", "disable_sampling": True},
        "logging": {"log_every": 1},
        "model": {"name_or_path": str(ROOT / "assets" / "flux2_tiny"), "arch": "flux2_tiny"},
    }
    job_file = folder / f"{name}.yaml"
    job_file.write_text(yaml.safe_dump({"job": "extension", "config": {"name": name, "process": [process]}}))
    log, begin = folder / "output" / name / "events.jsonl", time.time()
    started = subprocess.Popen([sys.executable, str(ROOT / "run.py"), str(job_file)], cwd=ROOT)
    while stop_after_s is not None and started.poll() is None:
        if log.exists() and any(event["kind"] == "stage" for event in read_events(log)):
            time.sleep(stop_after_s)
            started.terminate()
            break
        time.sleep(0.2)
    code = started.wait()
    events = list(read_events(log))
    stages = {e["name"]: e["duration_s"] for e in events if e["kind"] == "stage" and e["state"] == "done"}
    counts = [event for event in events if event["kind"] == "progress"]
    steps = [event for event in events if event["kind"] == "step"]
    found = {
        "exit_code": code,
        "until_first_stage_s": round(next(e["time"] for e in events if e["kind"] == "stage") - begin, 1),
        "stages_s": stages,
        "last_count": {key: counts[-1][key] for key in ("stage", "done", "total", "left_s")} if counts else None,
    }
    if len(steps) > STEPS // 2:
        times = [event["step_s"] for event in steps[STEPS // 3 :]]
        found |= {
            "until_first_step_s": round(steps[0]["time"] - begin, 1),
            "median_step_ms": round(1000 * statistics.median(times), 1),
            "slowest_of_ten_step_ms": round(1000 * statistics.quantiles(times, n=10)[-1], 1),
        }
    return found


def main() -> None:
    """Write the images, start on few, then twice on many, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--folder", help="folder for the temporary images; default: the system's")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    results: dict[str, Any] = {**setting(on_card=False), "images": arguments.images}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        write_images(folder / "few", 100)
        write_images(folder / "many", arguments.images)
        results["bytes"] = sum(path.stat().st_size for path in (folder / "many").iterdir())
        cases: dict[str, tuple[str, float | None]] = {
            "100 images": ("few", None),
            "stopped": ("many", 20.0),
            "first start": ("many", None),
            "second start": ("many", None),
            "100 images again": ("few", None),  # beside the second start, to compare their steps
        }
        for name, (images, stop) in cases.items():
            results[name] = run(folder, name.replace(" ", "_"), folder / images, stop_after_s=stop)
            print(json.dumps({name: results[name]}, indent=2), flush=True)
            if arguments.out:
                write_json(arguments.out, results)


if __name__ == "__main__":
    main()
