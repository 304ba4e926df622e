"""The tiny FLUX.2 for tests: loaded models, and jobs that train it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from jobs.job import Job, JobResult
from toolkit.config import ModelConfig, load_job
from toolkit.errors import JobError
from toolkit.models.base_model import BaseModel
from toolkit.output.events import read_events
from toolkit.parallel.deferred import value_of
from toolkit.runtime.stop import StopRequest
from toolkit.train.resume import ResumeChoice

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "assets" / "flux2_tiny"


class StopAfter(StopRequest):
    """Asks to stop when the trainer has looked `polls` times."""

    def __init__(self, polls: int) -> None:
        super().__init__()
        self.polls = polls

    @property
    def requested(self) -> bool:
        self.polls -= 1
        return self.polls < 0


def tiny_config(*, name_or_path: Path | str = TINY, arch: str = "flux2_tiny", **options: Any) -> ModelConfig:
    """The `model` section of a job with the tiny model."""
    paths = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    return ModelConfig.model_validate({"name_or_path": str(name_or_path), "arch": arch, **paths})


def tiny_model(*components: str, **options: Any) -> Flux2TinyModel:
    """The tiny model in fp32 on the CPU with some of its components loaded."""
    model = Flux2TinyModel(tiny_config(**options), device=torch.device("cpu"), dtype=torch.float32)
    for component in components:
        model.load(component)  # type: ignore[arg-type]
    return model


def saved_state(model: BaseModel) -> dict[str, torch.Tensor]:
    """What the model writes to the released single file."""
    return {name: value_of(tensor) for name, tensor in model.model_state_to_save().items()}


def write_dataset(folder: Path, *, count: int = 4, size_px: int = 32) -> Path:
    """Flat pictures in different colours, with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        color = (60 * index % 256, 255 - 40 * index % 256, 128)
        Image.new("RGB", (size_px, size_px), color).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a picture of colour {index}", encoding="utf-8")
    return folder


def write_job(folder: Path, *, name: str = "job", **sections: Any) -> Path:
    """A job that trains the tiny model on a few flat pictures; `sections` are merged in, None removes one."""
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": str(folder / "output"),
        "device": "cpu",
        "network": {"type": "lora", "linear": 4},
        "datasets": [{"folder_path": str(write_dataset(folder / "images")), "resolution": 32}],
        "train": {"steps": 6, "batch_size": 2, "lr": 1e-3, "dtype": "fp32", "disable_sampling": True},
        "save": {"save_every": 3, "dtype": "fp32"},
        "sample": {"width": 32, "height": 32, "sample_steps": 2},
        "model": {"name_or_path": str(TINY), "arch": "flux2_tiny"},
    }
    for key, value in sections.items():
        if isinstance(value, dict) and isinstance(process.get(key), dict):
            process[key] = {**process[key], **value}
        elif value is None:
            process.pop(key, None)
        else:
            process[key] = value
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"job": "extension", "config": {"name": name, "process": [process]}}))
    return path


def run_job(path: Path, stop: StopRequest | None = None, *overrides: str, from_step: int | None = None) -> JobResult:
    """Run a job file to its end; `overrides` as `--set` takes them, `from_step` as `--from-step` does."""
    job = Job(load_job(path, overrides=overrides), resume=ResumeChoice(step=from_step))
    return job.run(stop or StopRequest())


def checked_of(folder: Path, **sections: Any) -> Any:
    """What the check of a small job finds; the sections are those of `write_job`."""
    (checked,) = Job(load_job(write_job(folder, **sections))).checks()
    return checked


def problems_of(folder: Path, **sections: Any) -> list[str]:
    """What is wrong with a small job, whether its file or its check says so."""
    try:
        return [str(problem) for problem in checked_of(folder, **sections).problems]
    except JobError as error:
        return [str(problem) for problem in error.problems]


def losses(output: Path) -> dict[int, float]:
    """The loss of every step in a job's output folder, as it was recorded last."""
    return {event["step"]: event["loss"] for event in read_events(output / "events.jsonl") if event["kind"] == "step"}
