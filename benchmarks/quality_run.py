"""One run of `benchmarks.quality`: trains the tiny FLUX.2 in this process, and scores what came of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from benchmarks.quality_rows import Row
from benchmarks.quality_tasks import MODEL, TASKS, Scores, kept, write_ordinary
from jobs.job import Job
from scripts.flux2_tiny.draw import load_pipeline
from toolkit.config import load_job
from toolkit.lora.commands.merge import merge
from toolkit.runtime.log_file import silent
from toolkit.runtime.stop import StopRequest

NAME = "case"
ORDINARY = "ordinary"
LR = 5e-3
"""Of a LoRA under AdamW: fifty times what suits a real model."""


class Bench:
    """The tiny model and the pictures of the tasks, which all runs of a process share.

    Args:
        folder: where pictures with what is kept of their encodings are written, and what runs write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipeline = load_pipeline(MODEL)
        self._base = folder / "base"
        self.pipeline.transformer.save_pretrained(self._base)  # fp32: merging must not round

    def base(self, task: str) -> Scores:
        """Scores of the model before training."""
        self._load(self._base)
        return self._scores(task)

    def run(self, row: Row, *, seed: int) -> Scores:
        """Train with a seed and score it; adds sizes and the processor time of the run.

        Raises:
            RuntimeError: the training failed.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            job = Job(load_job(str(write_job(row, folder, seed=seed, pictures=self._pictures))))
            begin = time.process_time()
            with silent(True):
                status = job.run(StopRequest()).status
            cpu_s = time.process_time() - begin
            if status != "done":
                raise RuntimeError(f"{row.key}: the training ended as {status!r}")
            output = folder / "output" / NAME
            file = output / f"{NAME}.safetensors"
            state_bytes = sum(path.stat().st_size for path in (output / "state").rglob("optimizer*.safetensors"))
            merge([file], self._base, folder / "merged", weights=[1.0])
            self._load(folder / "merged")
            sizes = {"file_bytes": file.stat().st_size, "state_bytes": state_bytes, "cpu_s": round(cpu_s, 2)}
        return self._scores(row.task) | sizes

    def _load(self, folder: Path) -> None:
        (file,) = folder.glob("*.safetensors")
        self.pipeline.transformer.load_state_dict(load_file(file))

    def _scores(self, task: str) -> Scores:
        scores = TASKS[task].score(self.pipeline) | {"kept": kept(self.pipeline)}
        return {name: round(score, 4) for name, score in scores.items()}

    def _pictures(self, name: str) -> Path:
        """See `write_job`; written once."""
        folder = self.folder / name
        if not folder.exists():
            (write_ordinary if name == ORDINARY else TASKS[name].write)(folder)
        return folder


def write_job(row: Row, folder: Path, *, seed: int, pictures: Callable[[str], Path]) -> Path:
    """Write the job file of a row.

    Args:
        row: the row.
        folder: where the file is written, and where the job writes.
        seed: seed of the training.
        pictures: the folder of the pictures of a task, or of the `ORDINARY` ones.
    """
    task = TASKS[row.task]
    cached = {"resolution": 128, "cache_latents_to_disk": True, "cache_text_embeddings": True}
    own = task.dataset(pictures(row.task)) | {"caption_dropout_rate": 0.05} | row.settings.get("dataset", {})
    datasets = [{key: value for key, value in (own | cached).items() if value is not None}]
    if row.regularization is not None:
        datasets.append({"folder_path": str(pictures(ORDINARY)), "is_reg": True} | cached | row.regularization)
    train = {
        "steps": round(row.share * task.steps),
        "batch_size": 4,
        "lr": LR,
        "lr_scheduler": "cosine",
        "optimizer": "adamw",
        "timestep_type": "sigmoid",
        "content_or_style": "content",
        "dtype": "fp32",
        "gradient_checkpointing": False,
        "disable_sampling": True,
    }
    network = row.settings.get("network", {"type": "lora", "linear": 32, "linear_alpha": 32})
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": str(folder / "output"),
        "trigger_word": "zorbo",
        "training_seed": seed,
        "model": {"arch": "flux2_tiny", "name_or_path": str(MODEL)},
        "network": network | {"transformer_only": False},
        "datasets": datasets,
        "train": train | row.settings.get("train", {}),
        "save": {"save_every": 0},
    }
    job_file = folder / f"{NAME}.yaml"
    text = yaml.safe_dump({"job": "extension", "config": {"name": NAME, "process": [process]}})
    job_file.write_text(text, encoding="utf-8")
    return job_file
