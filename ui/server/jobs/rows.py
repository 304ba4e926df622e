"""A job as a row of the list."""

from __future__ import annotations

from toolkit.output.figures import number, whole
from ui.server.jobs.files import newest_sample
from ui.server.jobs.job import Job
from ui.server.jobs.settings import CAPTIONS, PICTURES
from ui.server.schemas import JobRow, Progress
from ui.server.words import clean


def row_of(job: Job, position: int | None) -> JobRow:
    """A job as a row of the list.

    Args:
        job: the job.
        position: in its queue, from 1; None if it does not wait.
    """
    entry, launch = job.entry, job.launch
    gpu = launch.gpu if launch is not None and job.is_live else entry.gpu if entry is not None else None
    return JobRow(
        id=job.id,
        name=clean(job.settings.name or job.summary.name or job.folder.name),
        state=job.state,
        reason=clean(job.reason),
        arch=_or_none(job.settings.arch or job.summary.arch),
        kind=clean(job.settings.kind),
        dataset=_or_none(job.settings.dataset),
        gpu=gpu,
        queue_position=position,
        is_held=job.state == "queued" and bool(job.waits),
        planned=job.planned if job.state in ("queued", "paused") or job.is_live else None,
        progress=_progress(job),
        thumb=newest_sample(job),
        output_folder=clean(str(job.folder)),
        created=job.notes.created or _started(job) or job.changed,
        updated=job.changed,
        is_external=job.is_external,
        stars=job.notes.stars,
        note=clean(job.notes.note),
    )


def _progress(job: Job) -> Progress | None:
    summary = job.summary
    if not summary.job_time and not summary.step:
        return None
    if job.settings.kind in (PICTURES, CAPTIONS) and not (job.is_live and summary.progress):
        return None  # it has no steps
    total = summary.total_steps or job.settings.steps
    step_s = summary.step_s
    stage = summary.progress or {}
    left = max(0, total - summary.step)
    return Progress(
        step=summary.step,
        total_steps=total,
        phase=clean(str(stage.get("stage") or summary.stage[0])),
        done=whole(stage.get("done")),
        total=whole(stage.get("total")),
        loss=summary.loss,
        recent_loss=summary.recent_loss,
        lr=summary.lr,
        step_s=step_s,
        eta_s=left * step_s if step_s is not None and job.is_live else None,
        phase_left_s=number(stage.get("left_s")) if job.is_live else None,
    )


def _started(job: Job) -> float:
    run = job.runs[0] if job.runs else None
    time = run.start.get("time") if run else None
    return float(time) if isinstance(time, int | float) else 0.0


def _or_none(text: str | None) -> str | None:
    return clean(text) if text else None
