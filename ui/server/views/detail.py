"""One job with all that its page shows at once."""

from __future__ import annotations

from typing import Any

from toolkit.errors import Problem as Said
from toolkit.output.bundles import newest_bundle
from toolkit.output.figures import number, whole
from ui.server.jobs.follow import events_of
from ui.server.jobs.job import EVENTS_FILE, Job
from ui.server.jobs.launch import mistakes_in, output_of
from ui.server.jobs.settings import CAPTIONS, PICTURES
from ui.server.jobs.text import as_problem
from ui.server.schemas import Action, Controls, Failure, JobDetail, JobRow, MemoryUse, Problem
from ui.server.views.validation import best_of
from ui.server.words import clean, printable

_FAILED = ("failed", "refused", "killed", "rebooted", "unresponsive", "lost")
_LOG_LINES = 60
_SHOWN_RUNS = 100
_MOST_WARNINGS = 100


def detail_of(job: Job, row: JobRow) -> JobDetail:
    """All of it."""
    stages, warnings = _memory_and_warnings(job)
    controls = controls_of(job)
    return JobDetail(
        **row.model_dump(),
        yaml=job.shown_text,
        controls=controls,
        failure=_failure(job, controls) if job.state in _FAILED else None,
        warnings=warnings,
        best=best_of(job),
        stages=stages,
        runs=[_run(run.start, run.resumed, run.end, run.status) for run in job.runs[-_SHOWN_RUNS:]],
    )


def controls_of(job: Job) -> Controls:
    """What can be done with a job now."""
    actions: list[Action] = ["clone"]
    label = ""
    if job.lost:
        actions = ["kill"] if job.state == "stopping" else ["stop", "kill"]
        label = "Stop"
    elif job.is_live:
        actions += ["kill"]
        if job.state != "stopping":
            actions += ["stop", "pause"]
            actions += ["save", "sample"] if job.settings.kind not in (PICTURES, CAPTIONS) else []
        step = job.summary.step
        label = f"Stop and save at step {step:,}" if job.summary.has_stepped else "Stop"
    elif job.state == "queued":
        actions += ["stop", "pause"]
        label = "Remove from queue"
    elif job.state == "paused":
        actions += ["start", "stop"]
        label = "Remove from queue"
    elif job.state != "elsewhere":
        actions += ["start", "resume"] if _resume_step(job) is not None else ["start"]
    return Controls(actions=actions, stop_label=label)


def _failure(job: Job, controls: Controls) -> Failure:
    log = _log(job)
    error = job.summary.error or {}
    message = str(error.get("message") or (job.run.end.get("error") if job.run else "") or job.reason)
    problems: list[Problem] = []
    if job.state == "refused":
        message, problems = _refused(log, job.reason)
    elif job.is_launch_newer:
        message = job.reason
    return Failure(
        message=clean(message), remedy=_remedy(job, can_resume="resume" in controls.actions), problems=problems, log=log
    )


def _resume_step(job: Job) -> int | None:
    """The step of the newest checkpoint that a run can resume from; None if there is none."""
    bundle, _ = newest_bundle(job.folder, is_thorough=False) if job.folder.is_dir() else (None, [])
    return None if bundle is None else bundle.step


def _remedy(job: Job, *, can_resume: bool) -> str:
    """What to do, in the words of the button that does it."""
    button = "Resume" if can_resume else "Start"
    if job.state == "refused":
        return f"Fix the problems below in the job's settings, then select {button}."
    if job.state == "unresponsive":
        return "If the machine is busy, wait. Otherwise force the job to stop; you can start it again afterwards."
    if job.lost:
        back = "move it back to where it was, and the run continues as if nothing had happened"
        return f"If the folder still exists, {back}. Otherwise stop the process: what it trains cannot be saved."
    step = _resume_step(job) if can_resume else None
    if step is not None:
        return f"Select Resume to continue from the checkpoint at step {step:,}."
    if job.settings.kind == PICTURES:
        return "Select Start to draw what is missing."
    if job.settings.kind == CAPTIONS:
        return "Select Start to caption what is missing."
    return "There is no checkpoint to resume from. Select Start to train from the start."


def _refused(log: str, reason: str) -> tuple[str, list[Problem]]:
    """What the trainer has printed of the mistakes in a job: a line with their number, then one for each."""
    heading, mistakes = mistakes_in(log)
    if heading:
        split = (line.partition(": ") for line in mistakes)
        return heading, [as_problem(Said(where, what)) for where, colon, what in split if colon]
    told = [line for line in log.splitlines() if line.strip()]
    return (told[-1].strip() if told else reason), []


def _log(job: Job) -> str:
    text = output_of(job.folder, job.launch) if job.launch is not None else ""
    trace = str((job.summary.error or {}).get("traceback") or "")
    lines = [line.rsplit("\r", 1)[-1] for line in (text or trace).split("\n")]
    return clean("\n".join(printable(line) for line in lines[-_LOG_LINES:]))


def _memory_and_warnings(job: Job) -> tuple[list[MemoryUse], list[str]]:
    """What each stage of the last start took, and what it has warned of."""
    found: dict[str, dict[str, Any]] = {}
    warnings: dict[str, None] = {}
    for event in events_of(job.folder / EVENTS_FILE, "job", "stage", "warning"):
        if event.get("kind") == "job":
            found, warnings = {}, {}
        elif event.get("kind") == "warning":
            warnings.setdefault(clean(str(event.get("text", ""))))
        elif event.get("state") == "done":
            found[str(event.get("name"))] = event
    stages = [
        MemoryUse(
            stage=clean(name),
            predicted_gpu_bytes=whole(event.get("predicted_gpu_bytes")),
            measured_gpu_bytes=whole(event.get("peak_gpu_bytes")),
            predicted_ram_bytes=whole(event.get("predicted_ram_bytes")),
            measured_ram_bytes=whole(event.get("peak_ram_bytes")),
            duration_s=number(event.get("duration_s")),
        )
        for name, event in found.items()
    ]
    return stages, list(warnings)[-_MOST_WARNINGS:]


def _run(start: dict[str, Any], resumed: dict[str, Any], end: dict[str, Any], status: str) -> dict[str, Any]:
    return {
        "time": number(start.get("time")),
        "ended": number(end.get("time")),
        "status": clean(status),
        "from_step": whole(resumed.get("step")),
        "step": whole(end.get("step")),
        "error": clean(str(end["error"])) if end.get("error") else None,
        "command": clean(str(start.get("command", ""))),
        "device": clean(str(resumed["device"])) if resumed.get("device") else None,
    }
