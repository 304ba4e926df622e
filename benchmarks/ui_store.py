"""A store as it is after a year: many jobs, one with many samples, one with a long log, one with a million steps."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

from PIL import Image

PROMPTS = 10
SIDE_PX = 256

_JOB = """job: extension
config:
  name: {name}
  process:
    - type: sd_trainer
      training_folder: {output}
      model: {{arch: flux2_tiny, name_or_path: assets/flux2_tiny}}
      network: {{type: lora, linear: 4}}
      datasets: [{{folder_path: {output}}}]
      train: {{steps: {steps}}}
"""


def fill(folder: Path, *, jobs: int = 500, samples: int = 10_000, log_mb: int = 100, points: int = 1_000_000) -> None:
    """Write jobs below `folder/output`: `job_0` has the samples and the log, `job_1` the long curves.

    Args:
        folder: a root of the server.
        jobs: how many.
        samples: pictures of the first job.
        log_mb: size of its log.
        points: steps of the second job, with four figures each.
    """
    for number in range(jobs):
        _write_job(folder, number, points if number == 1 else 1000)
    _write_samples(folder / "output" / "job_0" / "samples", samples)
    line = "step 1 of 1000000, loss 0.123456, some more words to make it as long as lines are\n"
    content = line * (log_mb * 1_000_000 // len(line)) + "the needle\n"
    (folder / "output" / "job_0" / "log.txt").write_text(content, encoding="utf-8")


def _write_job(folder: Path, number: int, num_steps: int) -> None:
    name = f"job_{number}"
    place = folder / "output" / name
    (place / "samples").mkdir(parents=True)
    text = _JOB.format(name=name, output=folder / "output", steps=num_steps)
    (place / "job.yaml").write_text(text, encoding="utf-8")
    (place / "notes.json").write_text('{"created": 1.0}', encoding="utf-8")
    runs = [{"kind": "start", "run": name, "time": 1.0}, {"kind": "end", "run": name, "time": 2.0, "status": "done"}]
    (place / "runs.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs), encoding="utf-8")
    with (place / "events.jsonl").open("w", encoding="utf-8") as file:
        job = {"time": 1.0, "kind": "job", "run": name, "name": name, "arch": "flux2_tiny", "steps": num_steps}
        file.write(json.dumps(job) + "\n")
        for step in range(1, num_steps + 1):
            noise = (step * 7919 % 1000) / 5000
            file.write(
                f'{{"time": {step}.0, "kind": "step", "step": {step}, "loss": {0.3 + noise + 50 / (step + 100):.4f}, '
                f'"lr": 0.0001, "grad_norm": {1 + noise:.3f}, "step_s": 1.1}}\n'
            )


def _write_samples(folder: Path, count: int) -> None:
    for number in range(count):
        step, index = divmod(number, PROMPTS)
        content = io.BytesIO()
        picture = Image.linear_gradient("L").resize((SIDE_PX, SIDE_PX))
        shade = Image.new("L", picture.size, step % 256)
        Image.merge("RGB", (picture, shade, picture.rotate(36 * index))).save(content, "JPEG", quality=80)
        (folder / f"{1_700_000_000_000 + number}__{step * 10:09d}_{index}.jpg").write_bytes(content.getvalue())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    fill(parser.parse_args().folder)
