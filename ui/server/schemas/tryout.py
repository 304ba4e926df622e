"""LoRA files, jobs that try them out, and what these have drawn."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ui.server.schemas.base import Answer, Body, Problem

_Path = Annotated[str, Field(min_length=1, max_length=4096)]
_Strength = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]


class LoraInfo(Answer):
    """A LoRA file in one of the roots.

    Attributes:
        job_id: of the run whose output folder it lies in; None if there is none.
        step: of that run; None where the file does not say.
        arch: of its model; None where the file does not say.
        time: of its last change, in seconds since 1970.
    """

    path: str
    name: str
    job_id: str | None
    step: int | None
    arch: str | None
    num_bytes: int
    time: float


class LoraList(Answer):
    """`GET /api/loras`."""

    loras: list[LoraInfo] = Field(description="The newest first.")
    is_cut: bool = Field(description="There are more files or folders than are looked at.")


class TryoutStart(Answer):
    """`GET /api/tryouts/start`: what a try-out begins with, from the samples of a run or from the model alone."""

    name: str
    prompts: list[str]
    width: int
    height: int
    sample_steps: int
    guidance_scale: float
    seed: int


class TryoutRequest(Body):
    """`POST /api/tryouts`: prompts x LoRAs x strengths x seeds.

    Attributes:
        run: id of the run whose model is drawn with; or else `arch`, the model with its published weights.
        loras: paths of the files.
        has_base: also without any of them.
    """

    run: str | None = Field(None, pattern="^[0-9a-f]{16}$")
    arch: str | None = Field(None, max_length=128)
    name: str = Field(max_length=200)
    prompts: list[Annotated[str, Field(max_length=10_000)]] = Field(max_length=1000)
    loras: list[_Path] = Field(max_length=200)
    has_base: bool
    strengths: list[_Strength] = Field(max_length=50)
    seeds: list[_Seed] = Field(max_length=1000)
    width: int = Field(ge=16, le=8192)
    height: int = Field(ge=16, le=8192)
    sample_steps: int = Field(ge=1, le=1000)
    guidance_scale: float = Field(ge=0, le=100, allow_inf_nan=False)


class TryoutDraft(Answer):
    """The job of a try-out, to be checked and started like any other; or what keeps it from being made.

    Attributes:
        problems: each with the field of the request that it is in.
    """

    yaml: str | None
    num_pictures: int
    problems: list[Problem]


class GridColumn(Answer):
    """One way in which every row is drawn.

    Attributes:
        name: name of the file, or what else distinguishes the column from the others.
        path: of the LoRA that the column tries; None for the column without it.
        strength: of that LoRA.
        job_id, step: of the run that it comes from; None where unknown.
    """

    name: str
    path: str | None
    strength: float | None
    job_id: str | None
    step: int | None


class GridRow(Answer):
    """A prompt with a seed."""

    prompt: str
    seed: int


class Grid(Answer):
    """`GET /api/jobs/{id}/grid`: what a drawing job draws; before its start there are no columns."""

    columns: list[GridColumn]
    rows: list[GridRow]
    cells: list[list[str | None]] = Field(description="Of each column the file ids by row; None: not drawn yet.")
    num_drawn: int


class KeepRequest(Body):
    """`POST /api/loras/keep`: copy a LoRA file under a name of one's choice."""

    path: _Path
    name: str = Field(min_length=1, max_length=255)


class Kept(Answer):
    """Where a copy was put."""

    path: str
    num_bytes: int
