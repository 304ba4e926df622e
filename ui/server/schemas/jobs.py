"""Jobs, the queue, and the messages about them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ui.server.schemas.base import Answer, Body, Problem
from ui.server.schemas.machine import Machine
from ui.server.schemas.notices import Notice

JobState = Literal[
    "draft",
    "queued",
    "paused",
    "starting",
    "checking",
    "encoding",
    "loading",
    "training",
    "sampling",
    "saving",
    "captioning",
    "stopping",
    "done",
    "failed",
    "refused",
    "interrupted",
    "stopped",
    "killed",
    "rebooted",
    "unresponsive",
    "elsewhere",
    "lost",
]
Action = Literal["start", "stop", "pause", "kill", "save", "sample", "clone", "resume"]


class Progress(Answer):
    """Where a run is."""

    step: int
    total_steps: int
    phase: str
    done: int | None = Field(description="Within a stage before training: how many of `total`.")
    total: int | None
    loss: float | None
    recent_loss: float | None = Field(description="Mean loss of the last steps.")
    lr: float | None
    step_s: float | None
    eta_s: float | None
    phase_left_s: float | None = Field(description="Seconds until `done` is `total`.")


class Controls(Answer):
    """What can be done with a job now."""

    actions: list[Action]
    stop_label: str = Field(description="What stopping does, such as `Stop and save at step 120`.")


class Planned(Answer):
    """How long the run of a waiting job will take."""

    low_s: float | None = Field(description="None where nothing can be said.")
    high_s: float | None
    basis: str = Field(description="On what it rests, or why nothing can be said.")


class JobRow(Answer):
    """A job in the list."""

    id: str
    name: str
    state: JobState
    reason: str = Field(description="The state in words: why, since when, at which step.")
    arch: str | None
    kind: str = Field(description="`LoRA`, `full fine-tune`, ...")
    dataset: str | None
    gpu: int | None
    queue_position: int | None
    is_held: bool = Field(description="It is first in a queue that nothing runs in, and cannot start yet.")
    planned: Planned | None = Field(description="Of a job without a step; None until that has been worked out.")
    progress: Progress | None
    thumb: str | None = Field(description="File id of the newest sample.")
    output_folder: str
    created: float
    updated: float
    is_external: bool = Field(description="Started outside this page.")
    stars: int
    note: str


class JobList(Answer):
    """`GET /api/jobs`."""

    jobs: list[JobRow]
    total: int
    is_queue_paused: bool


class Failure(Answer):
    """Why a job is not running as it should: the message, what to do, and the log around it."""

    message: str
    remedy: str
    problems: list[Problem]
    log: str


class MemoryUse(Answer):
    """Predicted and measured peaks of one stage, in bytes."""

    stage: str
    predicted_gpu_bytes: int | None
    measured_gpu_bytes: int | None
    predicted_ram_bytes: int | None
    measured_ram_bytes: int | None
    duration_s: float | None


class JobDetail(JobRow):
    """`GET /api/jobs/{id}`."""

    yaml: str
    controls: Controls
    failure: Failure | None
    warnings: list[str]
    best: str | None = Field(description="Which round of validation was the best, and why, in a sentence.")
    stages: list[MemoryUse]
    runs: list[dict[str, Any]] = Field(description="Every start: time, status, from which step.")


class JobRequest(Body):
    """`POST /api/jobs`."""

    yaml: str = Field(max_length=1_000_000)
    start: bool = False
    gpu: int | None = Field(None, ge=0, le=64)


class JobChange(Body):
    """`PUT /api/jobs/{id}`: what is left out stays."""

    yaml: str | None = Field(None, max_length=1_000_000)
    before: str | None = Field(
        None, max_length=1_000_000, description="The text that was edited: refused if the job has another one by now."
    )
    gpu: int | None = Field(None, ge=0, le=64)
    stars: int | None = Field(None, ge=0, le=5)
    note: str | None = Field(None, max_length=20_000)


class ActionRequest(Body):
    """`POST /api/jobs/{id}/{action}`: all of it optional.

    Attributes:
        checkpoint: resume: the step to continue from; None for the newest.
        steps: resume or start: train to this many steps.
        accept: continue although settings that shape the training have changed.
        name: clone: of the new job.
    """

    checkpoint: int | None = Field(None, ge=0)
    steps: int | None = Field(None, ge=1, le=10_000_000)
    accept: bool = False
    name: str | None = Field(None, max_length=200)


class JobId(Answer):
    """A job that was made or changed."""

    id: str


NO_CARD = ("any", "cpu")  # on a machine with cards, and on one without


class Queue(Body):
    """`PUT /api/queue`: the order of waiting jobs, by card.

    Those that take the first card that is free are under `any`, and under `cpu` on a machine without cards.
    """

    order: dict[str, list[str]] = Field(max_length=64)
    is_paused: bool | None = None


class Message(Answer):
    """One message of `GET /api/events` (server-sent events); `id` is `<boot>-<n>`.

    Kinds: `reset` (fetch everything again), `jobs` (rows that changed), `job` (events of one job, at most 4 a second),
    `removed` (a job id), `machine`, `notice` (see Notice).
    """

    kind: Literal["reset", "jobs", "job", "removed", "machine", "notice"]
    job_id: str | None = None
    jobs: list[JobRow] | None = None
    events: list[dict[str, Any]] | None = None
    machine: Machine | None = None
    notice: Notice | None = None
