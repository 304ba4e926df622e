"""What a check of a job text answers, and what job texts are made of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ui.server.schemas.base import Answer, Body, Problem


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
    basis: str = Field(description="On what it rests: `based on 3 runs here`, or `calculated`.")


class CheckRequest(Body):
    """`POST /api/check`."""

    yaml: str = Field(max_length=1_000_000)
    vram_gb: float | None = Field(None, gt=0, le=1024, description="Plan for a card of this size.")
    resume: Literal["latest", "none"] = "latest"


class CheckReport(Answer):
    """All that can be said about a job before it starts."""

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
