"""The output folder of a run as it might be, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from tests.tiny import TINY, write_dataset
from toolkit.output.events import EventLog
from toolkit.output.run_record import RunRecord
from toolkit.output.sample_files import SAMPLES, sample_name
from toolkit.units import GB

PROMPT = "a <b>cat</b> & a </script>"


def finished_run(folder: Path, *, steps: int = 40) -> Path:
    """A run of 40 steps that drew two prompts at three of them, with a job file, a record and a dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    images = write_dataset(folder.parent / "images")
    process = {
        "type": "sd_trainer",
        "training_folder": str(folder.parent),
        "model": {"arch": "flux2_tiny", "name_or_path": str(TINY)},
        "network": {"type": "lora", "linear": 8},
        "datasets": [{"folder_path": str(images), "resolution": 32}],
        "train": {"steps": steps, "lr": 0.003},
        "sample": {"samples": [{"prompt": PROMPT}]},
    }
    job = {"job": "extension", "config": {"name": folder.name, "process": [process]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    facts = {"command": "python run.py job.yaml", "commit": "abc123", "versions": {"torch": "2.13.0"}}
    with RunRecord(folder, facts) as record, EventLog(folder / "events.jsonl") as log:
        log.write("job", run=record.run, name=folder.name, arch="flux2_tiny", steps=steps)
        record.resumed(0, device="cpu")
        log.write("warning", text="a caption is <empty>")
        for step in range(steps + 1):
            if step:
                log.write("step", step=step, loss=1 / step + 0.1 * (step % 3), terms={"v": 1.0}, lr=3e-3, step_s=0.5)
            if step % 20 == 0:
                log.write("validation", step=step, **_round(step))
                log.write("memory", ram_bytes=2 * GB, gpu_bytes=None, gpu_reserved_bytes=None)
                for index in range(2):
                    _draw(folder, log, step, index)
        log.write("checkpoint", state="written", path=f"{folder.name}.safetensors", step=steps, bytes=10, final=True)
        sizes = {"peak_ram_bytes": 3 * GB, "predicted_ram_bytes": 2 * GB, "peak_gpu_bytes": 0, "predicted_gpu_bytes": 0}
        log.write("stage", name="train", state="done", duration_s=61.0, **sizes)
        record.ends("done")
    return folder


def _round(step: int) -> dict[str, Any]:
    """What a round of validation says: unseen images are best at step 20."""

    def figure(mean: float) -> dict[str, Any]:
        return {"mean": mean, "half": 0.02, "num": 8}

    unseen = {0: 0.0, 20: -0.2, 40: -0.1}[step]
    figures = {
        "held_out": figure(unseen) | {"bands": {"0-0.5": figure(unseen - 0.05), "0.5-1": figure(unseen + 0.05)}},
        "train": figure(-0.01 * step),
        "preserved": figure(0.001 * step),
    }
    best = {
        "figure": "held_out",
        "step": min(step, 20),
        **figure(-0.2 if step else 0.0),
        "alike": [40] if step == 40 else [],
    }
    return {"figures": figures, "gap": figure(0.01 * step), "best": best}


def _draw(folder: Path, log: EventLog, step: int, index: int) -> None:
    path = folder / SAMPLES / sample_name(time_ms=1000 + step, step=step, index=index, extension="png")
    path.parent.mkdir(exist_ok=True)
    Image.effect_noise((64, 64), 40 + step).convert("RGB").save(path)
    log.write("sample", path=f"{SAMPLES}/{path.name}", step=step, index=index, prompt=PROMPT, seed=42 + index)
