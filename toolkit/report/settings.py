"""What a report says about a job's settings and datasets, from the job file that the run has kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.config import JobConfig, load_job
from toolkit.config.dataset import DatasetConfig
from toolkit.config.reading.setting_changes import Difference, chosen_settings
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.data.sources.find import list_images
from toolkit.errors import UserError
from toolkit.output.small_pictures import shrunk
from toolkit.report.pictures import address_of

CONFIG_FILE = "config.yaml"
_THUMB_PX = 112
_MOST_THUMBS = 24  # of all datasets together


@dataclass(frozen=True)
class DatasetRow:
    """A dataset.

    Attributes:
        name: of its folder or file.
        num_images: in it now; None if they cannot be read any more.
        thumbs: some of its pictures, as name and `data:` address.
    """

    name: str
    num_images: int | None
    thumbs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Settings:
    """A job's settings.

    Attributes:
        written: the job file, as the run has kept it; empty if it has gone.
        chosen: the settings that differ from their defaults; empty if the file cannot be read as a job any more.
        problem: why it cannot; empty if it can.
        datasets: what is trained on.
    """

    written: str
    chosen: Sequence[Difference]
    problem: str
    datasets: Sequence[DatasetRow]


def read_settings(folder: Path) -> Settings:
    """The settings of the last start in an output folder."""
    path = folder / CONFIG_FILE
    try:
        written = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Settings("", (), f"The run's copy of its job file, {CONFIG_FILE}, is gone.", ())
    try:
        job = load_job(path)
    except UserError as error:
        return Settings(written, (), f"The run's copy of its job file can't be checked any more. {error}", ())
    process = _process_of(job, folder)
    if process is None:
        return Settings(written, (), "The job does not train.", ())
    chosen = [Difference(it.key, it.before, job.redact(it.now), it.is_harmless) for it in chosen_settings(process)]
    each = max(2, _MOST_THUMBS // max(1, len(process.datasets)))
    return Settings(written, chosen, "", [_dataset(dataset, each) for dataset in process.datasets])


def _process_of(job: JobConfig, folder: Path) -> TrainingProcessConfig | None:
    """The process of a job that writes into a folder, or else its first, if it trains."""
    training = [process for process in job.config.process if isinstance(process, TrainingProcessConfig)]
    own = [process for process in training if process.output_folder(job.name).resolve() == folder.resolve()]
    return next(iter(own or training), None)


def _dataset(dataset: DatasetConfig, most: int) -> DatasetRow:
    listing = list_images(dataset.folder_path, recursive=dataset.recursive)
    if listing.problems:
        return DatasetRow(dataset.folder_path.name, None, ())
    images = list(listing.images)
    shown = images[:: max(1, -(-len(images) // most))]
    thumbs = []
    for path in shown:
        with contextlib.suppress(UserError):
            thumbs.append((path.name, address_of(shrunk(path, _THUMB_PX, quality=70))))
    return DatasetRow(dataset.folder_path.name, len(images), thumbs)
