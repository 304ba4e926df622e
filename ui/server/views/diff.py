"""How the settings of a job differ from those of its last run, or of another job."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from toolkit.config import load_job
from toolkit.config.reading.setting_changes import differences
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import UserError
from ui.server.jobs.job import CONFIG_FILE, Job
from ui.server.jobs.text import TextFolder
from ui.server.refusal import Refusal, from_error
from ui.server.schemas import Difference, Differences, Origin, Origins
from ui.server.words import clean


def differences_of(job: Job, other: Job | None, texts: TextFolder) -> Differences:
    """Raises Refusal where one of the texts cannot be read."""
    before = job.folder / CONFIG_FILE if other is None else other.text_path
    against = "its last run" if other is None else clean(other.settings.name or other.folder.name)
    if other is None and not before.is_file():
        return Differences(against=against, differences=[])
    found = differences(settings_of(before, texts), settings_of(job.text_path, texts))
    return Differences(
        against=against,
        differences=[
            Difference(key=clean(it.key), before=clean(it.before), now=clean(it.now), is_harmless=it.is_harmless)
            for it in found
        ],
    )


def origins_of(job: Job, parent: Job | None) -> Origins:
    """The settings that a job has come from.

    Args:
        job: the job.
        parent: the one that it was cloned from; None if there is none any more.
    """
    found = [_origin(job, "run", job.folder / CONFIG_FILE)]
    if parent is not None:
        frozen = parent.folder / CONFIG_FILE  # its text may have been edited since it ran
        found.append(_origin(parent, "clone", frozen if frozen.exists() else parent.text_path))
    return Origins(origins=[origin for origin in found if origin is not None])


def settings_of(path: Path, texts: TextFolder) -> dict[str, Any]:
    """The settings of a training in a job text, dumped without secrets.

    Raises:
        Refusal: it has mistakes, or does not train.
    """
    try:
        with texts.file(path.read_text(encoding="utf-8")) as copy:
            config = load_job(copy)
    except UserError as error:
        raise Refusal(409, from_error(error)) from error
    process = config.config.process[0]
    if not isinstance(process, TrainingProcessConfig):
        raise Refusal(409, "Only training jobs can be compared.")
    redacted: dict[str, Any] = config.redacted(process.model_dump(mode="json"))
    return redacted


def _origin(job: Job, kind: Literal["run", "clone"], path: Path) -> Origin | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return Origin(kind=kind, job_id=job.id, name=clean(job.settings.name or job.folder.name), yaml=clean(text))
