"""The samples of a job as a matrix of steps and prompts."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from toolkit.output.figures import whole
from ui.server.jobs.files import file_id, sample_files
from ui.server.jobs.follow import events_of
from ui.server.jobs.job import EVENTS_FILE, Job
from ui.server.schemas import Sample, Samples
from ui.server.words import clean


def samples_of(job: Job) -> Samples:
    """Every sample. What it was drawn from is taken from its event; only where there is none, from the job text."""
    events = _sample_events(job)
    files = sample_files(job)
    starred = set(job.notes.starred)
    samples = []
    for found in files:
        event = events.get(found.path.name, {})
        samples.append(
            Sample(
                file=file_id(job, found.path),
                step=found.step,
                index=found.index,
                prompt=_prompt(job, event, found.index),
                seed=whole(event.get("seed")),
                width=whole(event.get("width")),
                height=whole(event.get("height")),
                time=found.time,
                is_starred=found.path.name in starred,
            )
        )
    prompts: dict[int, str | None] = {}
    for sample in samples:
        prompts[sample.index] = sample.prompt or prompts.get(sample.index)
    count = max(prompts, default=-1) + 1
    return Samples(
        steps=sorted({sample.step for sample in samples}),
        prompts=[prompts.get(index) for index in range(min(count, 10_000))],
        samples=samples,
    )


def _sample_events(job: Job) -> dict[str, dict[str, Any]]:
    return {
        PurePosixPath(str(event.get("path", "")).replace("\\", "/")).name: event
        for event in events_of(job.folder / EVENTS_FILE, "sample")
        if "index" in event
    }


def _prompt(job: Job, event: dict[str, Any], index: int) -> str | None:
    if isinstance(event.get("prompt"), str):
        return clean(event["prompt"])
    prompts = job.settings.prompts
    return clean(prompts[index]) if index < len(prompts) else None
