"""The files of a job that a page may open: samples, and weights that a checkpoint lists. Nothing else has an id."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ui.server.jobs.job import Job
from ui.server.refusal import Refusal

PICTURES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
SAMPLES = "samples"
_NAME = re.compile(r"(?P<ms>\d{1,15})__(?P<step>\d{1,12})_(?P<index>\d{1,6})\.(jpg|jpeg|png|webp)")


@dataclass(frozen=True)
class SampleFile:
    """A picture that a run has drawn.

    Attributes:
        path: where.
        time: when, in seconds since 1970.
        step, index: of the run, and of the prompt.
    """

    path: Path
    time: float
    step: int
    index: int


def file_id(job: Job, path: Path) -> str:
    """The id of a file in a job's folder."""
    name = Path(os.path.relpath(path, job.folder)).as_posix()
    digest = hashlib.sha256(f"{job.id}/{name}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{job.id}-{digest}"


def sample_files(job: Job) -> list[SampleFile]:
    """Every sample, in the order of steps and prompts; of two at one place the newest."""
    found: dict[tuple[int, int], SampleFile] = {}
    folder = job.folder / SAMPLES
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - 10,000 of them
    except OSError:
        return []
    for name in names:
        match = _NAME.fullmatch(name)
        if match:
            step, index = int(match["step"]), int(match["index"])
            found[step, index] = SampleFile(folder / name, int(match["ms"]) / 1000, step, index)
    return [found[place] for place in sorted(found)]


def newest_sample(job: Job) -> Path | None:
    """The picture that stands for a job: the first prompt of its newest round."""
    if job.summary.sampled is None and not (job.folder / SAMPLES).is_dir():
        return None
    files = sample_files(job)
    newest = max((it.step for it in files), default=0)
    return next((it.path for it in files if it.step == newest), None)


def find_file(job: Job, id_: str) -> Path:
    """The file of an id.

    Raises:
        Refusal: there is none, or a link leads out of the job's folder.
    """
    for path in _files(job):
        if file_id(job, path) == id_:
            real = Path(os.path.realpath(path))
            if real.is_relative_to(os.path.realpath(job.folder)) and real.is_file():
                return real
    raise Refusal(404, "There is no such file. It may have been deleted by the run.")


def _files(job: Job) -> Iterator[Path]:
    yield from (sample.path for sample in sample_files(job))
    yield job.folder / SAMPLES / "grid.jpg"
    yield from sorted(job.folder.glob("*.safetensors"))
