"""What a page shows of one job: curves, log, samples, checkpoints, changes; and what is imported."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ui.server.schemas.base import Answer, Body


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


class SeenPicture(Answer):
    """A picture that a step trains on."""

    name: str
    file: str | None = Field(description="File id as that of a picture of a dataset; null if it is in none.")
    times: int = Field(description="How often the step trains on it: repeats and mirrored copies count.")


class Seen(Answer):
    """`GET /api/jobs/{id}/seen`: the pictures of a step, and the steps of a picture."""

    step: int
    last_step: int
    is_same: bool | None = Field(
        description="Whether the datasets are as they were at the last checkpoint; null if there is none."
    )
    pictures: list[SeenPicture]
    steps: list[int] = Field(description="That have trained on the picture asked for; the first 1,000.")
    num_steps: int


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
    """`GET /api/jobs/{id}/checkpoints`.

    Attributes:
        samples: file ids of what was drawn at its step, in the order of the prompts.
        validation: what the round of validation at its step found; None if there was none.
        mark: `best` round, or one that does not differ significantly from it (`alike`).
    """

    step: int
    is_valid: bool
    why: str = Field(description="Why it is not valid, or what is missing; empty if nothing.")
    has_state: bool
    num_bytes: int
    file: str | None = Field(description="File id of the weights, to download.")
    path: str
    time: float
    is_final: bool
    samples: list[str]
    validation: str | None = None
    mark: Literal["best", "alike"] | None = None


class Aside(Answer):
    """`GET /api/jobs/{id}/aside`: checkpoints in `superseded/`, deleted on the page or trained again."""

    num_folders: int
    num_bytes: int


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
    arch: str | None = Field(description="The model of its first process; null if it names none.")
    changes: list[str]


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


class Origin(Answer):
    """Settings that a job has come from.

    Attributes:
        kind: `run`: compared with the job's own last run; `clone`: with the job that it was cloned from.
        job_id: of that job.
        name: of that job.
        yaml: the job text, as that run was started with it.
    """

    kind: Literal["run", "clone"]
    job_id: str
    name: str
    yaml: str


class Origins(Answer):
    """`GET /api/jobs/{id}/origins`: what its settings can be held against, the nearest first."""

    origins: list[Origin]


class Differences(Answer):
    """`GET /api/jobs/{id}/diff`: against its last run, or with `other` against another job."""

    against: str
    differences: list[Difference]
