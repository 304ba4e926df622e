"""The files of a job that a page may open: samples, drawn pictures, and weights. Nothing else has an id."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.output.sample_files import SAMPLES, sample_names
from ui.server.jobs.folders import stamp
from ui.server.jobs.job import Job
from ui.server.jobs.settings import PICTURES as DRAWS
from ui.server.refusal import Refusal

PICTURES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_KEPT_LISTINGS = 1000
_DRAWN = re.compile(r"\d{4,}_[0-9a-f]{8}|sheet_[a-z]+")


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
    """The id of a file in a job's folder: a sample, or weights."""
    name = f"{SAMPLES}/{path.name}" if path.parent.name == SAMPLES else path.name
    digest = hashlib.sha256(f"{job.id}/{name}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{job.id}-{digest}"


def sample_files(job: Job) -> list[SampleFile]:
    """Every sample, in the order of steps and prompts; of two at one place the newest."""
    folder = job.folder / SAMPLES
    return [
        SampleFile(folder / name, int(name.partition("__")[0]) / 1000, step, index)
        for (step, index), name in sorted(sample_names(folder).items())
    ]


def newest_sample(job: Job) -> str | None:
    """The id of the picture that stands for a job: the first prompt of its newest round."""
    return _listing(job).newest


def find_file(job: Job, id_: str) -> Path:
    """The file of an id.

    Raises:
        Refusal: there is none, or a link leads out of the job's folder.
    """
    path = _listing(job).by_id.get(id_)
    if path is not None:
        real = Path(os.path.realpath(path))
        if real.is_relative_to(os.path.realpath(job.folder)) and real.is_file():
            return real
    raise Refusal(404, "File not found. The run may have deleted it.")


def drawn(job: Job) -> list[Path]:
    """The pictures of a job that draws, and its sheet; of others none."""
    if job.settings.kind != DRAWS:
        return []
    return [path for path in job.folder.glob("*.*") if path.suffix in PICTURES and _DRAWN.fullmatch(path.stem)]


@dataclass
class _Listing:
    """The files of a job by their ids, as its folders were at one time."""

    job: Job
    stamps: tuple[Any, ...]
    newest: str | None

    @functools.cached_property
    def by_id(self) -> dict[str, Path]:
        """Made when someone opens a file: a list of 500 jobs shows one picture of each."""
        return {file_id(self.job, path): path for path in _files(self.job)}


_listings: OrderedDict[str, _Listing] = OrderedDict()
_lock = threading.Lock()


def _listing(job: Job) -> _Listing:
    """Made again only when a file has come or gone: a page of 60 thumbnails must not name 10,000 files 60 times."""
    stamps = (stamp(job.folder), stamp(job.folder / SAMPLES))
    with _lock:
        known = _listings.get(job.id)
        if known is not None and known.stamps == stamps:
            _listings.move_to_end(job.id)
            return known
    names = sample_names(job.folder / SAMPLES) if stamps[1] else {}
    place = min(names, key=lambda place: (-place[0], place[1]), default=None)
    newest = min(drawn(job), default=None) if place is None else job.folder / SAMPLES / names[place]
    made = _Listing(job, stamps, None if newest is None else file_id(job, newest))
    with _lock:
        _listings[job.id] = made
        while len(_listings) > _KEPT_LISTINGS:
            _listings.popitem(last=False)
    return made


def _files(job: Job) -> Iterator[Path]:
    yield from (sample.path for sample in sample_files(job))
    yield job.folder / SAMPLES / "grid.jpg"
    yield from drawn(job)
    yield from sorted(job.folder.glob("*.safetensors"))
