"""Captions that a model proposes: the job that makes them, and what people decide about each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ui.server.schemas.base import Answer, Body, Problem
from ui.server.schemas.datasets import LONGEST_CAPTION, Tag, UndoStep


class CaptionJobRequest(Body):
    """`POST /api/captioning`: what is captioned, and by which model."""

    dataset: str = Field(pattern="^[0-9a-f]{16}$", description="Its id.")
    model: str = Field(max_length=4096, description="Folder of the model, or its id on the hub.")
    instruction: str = Field("", max_length=10_000, description="What the model is asked; empty for the usual.")
    prefix: str = Field("", max_length=1000, description="Text before each caption.")
    has_all: bool = Field(False, description="Also the pictures that have a caption.")


class CaptionJobDraft(Answer):
    """The job text, to be checked and started like any other."""

    yaml: str | None = Field(description="None if the request has mistakes.")
    problems: list[Problem]


class ProposalRow(Answer):
    """A proposed caption that nobody has decided about."""

    image: str = Field(description="Picture, relative to the folder that was captioned.")
    file: str = Field(description="File id: `/files/datasets/{id}`.")
    before: str = Field(description="Caption that the picture had when it was captioned.")
    now: str
    tag: Tag = Field(description="Of the caption as it is now; a decision sends it back.")
    text: str
    is_conflict: bool = Field(description="The caption was changed since: `now` is not `before`.")


class Proposals(Answer):
    """`GET /api/jobs/{id}/proposals`: some of those that are open, in the order in which they were made."""

    dataset: str | None = Field(description="Id of the dataset that was captioned; None if it is gone.")
    folder: str
    num_made: int
    total: int = Field(description="How many are open.")
    offset: int
    rows: list[ProposalRow]


class Decision(Body):
    """What becomes of a proposal; `reopen` takes back that it was skipped."""

    image: str = Field(max_length=4096)
    action: Literal["accept", "skip", "reopen"]
    text: str = Field("", max_length=LONGEST_CAPTION, description="The caption, which may have been edited.")
    if_match: Tag = Field("", max_length=64, description="With `accept`: tag of the caption that is replaced.")


class Decisions(Body):
    """`POST /api/jobs/{id}/proposals`."""

    decisions: list[Decision] = Field(min_length=1, max_length=500)


class Decided(Answer):
    """What came of decisions."""

    num_written: int
    kept: list[str] = Field(description="Pictures whose caption was changed since it was shown; they stay open.")
    dataset: str | None = Field(description="Where `undo` can be taken back.")
    undo: UndoStep | None


class CaptionJob(Answer):
    """A job with open proposals for a dataset."""

    id: str
    name: str
    num_open: int


class CaptionJobs(Answer):
    """`GET /api/datasets/{id}/proposals`: the newest first."""

    jobs: list[CaptionJob]
