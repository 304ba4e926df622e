"""What the API takes and answers: one pydantic model each. The page's types are generated from these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
]
Severity = Literal["error", "warning", "notice"]
Action = Literal["start", "stop", "pause", "kill", "save", "sample", "clone", "resume"]


class Body(BaseModel):
    """What a request sends: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """What an answer holds."""

    model_config = ConfigDict(extra="forbid")


# Session


class SessionRequest(Body):
    """`POST /api/session`: trade the token of the printed address for a session."""

    token: str = Field(min_length=1, max_length=512)


class Session(Answer):
    """The token to send as `Authorization: Bearer`; the cookie that comes with it opens pictures and downloads only."""

    token: str


# Problems and checks


class Fix(Answer):
    """A change that mends a problem or makes a job fit, as edits of the job text."""

    label: str
    edits: dict[str, Any] = Field(description="Dotted keys of the first process, such as `model.quantize`, to values.")


class Problem(Answer):
    """One thing that is wrong or worth knowing.

    Attributes:
        where: dotted key of the first process (`train.lr`, `datasets.0.folder_path`), a file, or empty.
        what: what is wrong and what to do.
        line: of the job text, from 1; None where it cannot be told.
        suggestion: the nearest valid spelling or value.
    """

    severity: Severity
    where: str
    what: str
    line: int | None = None
    column: int | None = None
    suggestion: str | None = None
    fix: Fix | None = None


class Problems(Answer):
    """The body of every refused request."""

    problems: list[Problem]


class Bucket(Answer):
    """A size that images are trained at, in pixels."""

    width: int
    height: int
    examples: int


class DatasetTable(Answer):
    """One dataset of a job."""

    source: str
    resolution: int
    num_images: int
    num_captions: int
    num_skipped: int
    num_references: int
    is_reg: bool
    buckets: list[Bucket]


class Phase(Answer):
    """The fullest moment of one phase of a run."""

    name: str
    stage: str
    gpu_bytes: int
    ram_bytes: int
    parts: dict[str, int] = Field(description="Bytes on the card by what takes them: weights, activations, ...")


class Way(Answer):
    """A set of settings with which the job would fit."""

    settings: dict[str, Any]
    peak_gpu_bytes: int
    peak_ram_bytes: int


class MemoryReport(Answer):
    """The memory plan."""

    fits: bool
    device: str
    card: str
    gpu_bytes: int | None
    free_gpu_bytes: int | None
    ram_bytes: int | None
    free_ram_bytes: int | None
    peak_gpu_bytes: int
    peak_ram_bytes: int
    phases: list[Phase]
    ways: list[Way]


class Estimate(Answer):
    """How long a run will take."""

    low_s: float
    high_s: float
    basis: str = Field(description="On what it rests: `from 3 runs here`, or `computed`.")


class CheckRequest(Body):
    """`POST /api/check`."""

    yaml: str = Field(max_length=1_000_000)
    vram_gb: float | None = Field(None, gt=0, le=1024, description="Plan for a card of this size.")
    resume: Literal["latest", "none"] = "latest"


class CheckReport(Answer):
    """All that can be said of a job before it starts."""

    ok: bool
    name: str | None
    problems: list[Problem] = Field(description="Errors first, then warnings and notices.")
    lines: list[str] = Field(description="The plan as the command line prints it.")
    datasets: list[DatasetTable]
    memory: MemoryReport | None
    disk: dict[str, int] = Field(description="Upper estimates in bytes, by what is written.")
    free_disk_bytes: int | None
    download_bytes: int | None = Field(description="What must be downloaded first; 0: nothing, None: not known.")
    licence: str | None
    gate: str | None = Field(description="What to do first where the weights are gated; None if nothing.")
    estimate: Estimate | None
    resume_step: int | None
    superseded_steps: list[int]
    output_folder: str | None


# Models, form, machine, settings


class VariantInfo(Answer):
    """Other released weights of a model."""

    label: str
    advice: str


class ModelInfo(Answer):
    """A model that a job may name, from its card."""

    arch: str
    family: str
    label: str
    summary: str
    source: str
    licence: str
    is_gated: bool
    num_parameters: int
    capabilities: list[str]
    defaults: dict[str, dict[str, Any]]
    notes: list[str]
    variants: list[VariantInfo]


class GpuInfo(Answer):
    """A card, as its driver sees it now."""

    index: int
    name: str
    total_bytes: int
    used_bytes: int
    load: float | None = Field(description="0 to 1.")
    temperature_c: float | None
    power_w: float | None
    job_id: str | None = Field(description="The job of this queue that runs on it.")


class DiskInfo(Answer):
    """Room in a root folder."""

    root: str
    total_bytes: int
    free_bytes: int


class Machine(Answer):
    """This machine now."""

    version: str
    hostname: str
    gpus: list[GpuInfo]
    cpu_load: float
    ram_bytes: int
    free_ram_bytes: int
    disks: list[DiskInfo]
    roots: list[str]
    broken_extensions: list[str]
    dist_is_stale: bool


class Settings(Answer):
    """Settings of this installation. Secrets are written, never read."""

    training_folder: str
    default_arch: str
    has_hub_token: bool


class SettingsChange(Body):
    """`PUT /api/settings`: what is left out stays."""

    training_folder: str | None = Field(None, max_length=4096)
    default_arch: str | None = Field(None, max_length=128)
    hub_token: str | None = Field(None, max_length=512, description="Empty: forget it.")


# Jobs


class Progress(Answer):
    """Where a run is."""

    step: int
    total_steps: int
    phase: str
    done: int | None = Field(description="Within a stage before training: how many of `total`.")
    total: int | None
    loss: float | None
    lr: float | None
    step_s: float | None
    eta_s: float | None


class Controls(Answer):
    """What can be done with a job now."""

    actions: list[Action]
    stop_label: str = Field(description="What stopping does, such as `Stop and save at step 120`.")


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
    gpu: int | None = Field(None, ge=0, le=64)
    stars: int | None = Field(None, ge=0, le=5)
    note: str | None = Field(None, max_length=20_000)


class ActionRequest(Body):
    """`POST /api/jobs/{id}/{action}`: all of it optional.

    Attributes:
        checkpoint: resume: the step to go on from; None for the newest.
        steps: resume or start: train to this many steps.
        accept: go on although settings that shape the training have changed.
        name: clone: of the new job.
    """

    checkpoint: int | None = Field(None, ge=0)
    steps: int | None = Field(None, ge=1, le=10_000_000)
    accept: bool = False
    name: str | None = Field(None, max_length=200)


class JobId(Answer):
    """A job that was made or changed."""

    id: str


class Queue(Body):
    """`PUT /api/queue`: the order of waiting jobs, by card; `cpu` where there is none."""

    order: dict[str, list[str]] = Field(max_length=64)
    is_paused: bool | None = None


class Series(Answer):
    """One curve, at most as many points as asked for: first, smallest, largest and last of each interval."""

    key: str
    steps: list[float]
    low: list[float]
    mean: list[float]
    high: list[float]


class Mark(Answer):
    """Something that happened at a step: a sample round, a checkpoint, a start."""

    step: int
    kind: Literal["sample", "checkpoint", "resume", "end"]
    time: float
    label: str


class Metrics(Answer):
    """`GET /api/jobs/{id}/metrics`."""

    keys: list[str] = Field(description="Every figure that the events of this job hold.")
    series: list[Series]
    marks: list[Mark]
    last_step: int


class LogPage(Answer):
    """`GET /api/jobs/{id}/log`: some lines of the log, by line number from 0."""

    first: int
    lines: list[str]
    num_lines: int
    matches: list[int] = Field(description="Line numbers that contain the searched text, at most 10,000.")


class Sample(Answer):
    """One picture."""

    file: str = Field(description="File id: `/files/{id}`, with `?thumb=256` for a small one.")
    step: int
    index: int
    prompt: str | None
    seed: int | None
    width: int | None
    height: int | None
    time: float
    is_starred: bool


class Samples(Answer):
    """`GET /api/jobs/{id}/samples`: the matrix of steps and prompts."""

    steps: list[int]
    prompts: list[str | None]
    samples: list[Sample]


class Checkpoint(Answer):
    """`GET /api/jobs/{id}/checkpoints`."""

    step: int
    is_valid: bool
    why: str = Field(description="Why it is not valid, or what is missing; empty if nothing.")
    has_state: bool
    num_bytes: int
    file: str | None = Field(description="File id of the weights, to download.")
    path: str
    time: float
    is_final: bool
    thumb: str | None


class Checkpoints(Answer):
    """All checkpoints of a job, newest first."""

    checkpoints: list[Checkpoint]


class ImportRequest(Body):
    """`POST /api/import`: a job file of ours or ai-toolkit's, or what a LoRA file or a sample picture holds."""

    filename: str = Field(max_length=255)
    to: str | None = Field(None, max_length=128, description="Rewrite a job file for this model.")
    text: str | None = Field(None, max_length=1_000_000)
    base64: str | None = Field(None, max_length=40_000_000)


class Imported(Answer):
    """A job text made from something else."""

    yaml: str
    source: str = Field(description="What it was made from.")
    changes: list[str]


class Message(Answer):
    """One message of `GET /api/events` (server-sent events); `id` is `<boot>-<n>`.

    Kinds: `reset` (fetch everything again), `jobs` (rows that changed), `job` (events of one job, at most 4 a second),
    `removed` (a job id), `machine`.
    """

    kind: Literal["reset", "jobs", "job", "removed", "machine"]
    job_id: str | None = None
    jobs: list[JobRow] | None = None
    events: list[dict[str, Any]] | None = None
    machine: Machine | None = None


class Star(Body):
    """`PUT /api/jobs/{id}/samples/{file}/star`."""

    is_starred: bool


class Difference(Answer):
    """A setting that is not what it was.

    Attributes:
        key: dotted key of the first process.
        is_harmless: it changes no step's numbers.
    """

    key: str
    before: str
    now: str
    is_harmless: bool


class Differences(Answer):
    """`GET /api/jobs/{id}/diff`: against its last run, or with `other` against another job."""

    against: str
    differences: list[Difference]
