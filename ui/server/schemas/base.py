"""What every request and every answer is made of, and how each says what is wrong."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Severity = Literal["error", "warning", "notice"]


class Body(BaseModel):
    """What a request sends: unknown keys are refused, and so is a text where a number or yes and no belong."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(BaseModel):
    """What an answer holds."""

    model_config = ConfigDict(extra="forbid")


class SessionRequest(Body):
    """`POST /api/session`: trade the token of the printed address for a session."""

    token: str = Field(min_length=1, max_length=512)


class Session(Answer):
    """The token to send as `Authorization: Bearer`; the cookie that comes with it opens pictures and downloads only."""

    token: str


class Fix(Answer):
    """A change that fixes a problem or makes a job fit, as edits of the job text: first new names, then values."""

    label: str
    edits: dict[str, Any] = Field(
        description="Dotted keys of the first process, such as `model.quantize`, to values; None takes a key away."
    )
    renames: dict[str, str] = Field(default_factory=dict, description="Dotted keys to the last part of their new name.")


class Problem(Answer):
    """One thing that is wrong or worth knowing.

    Attributes:
        where: dotted key of the first process (`train.lr`, `datasets.0.folder_path`), a file, or empty.
        what: what is wrong and what to do.
        line: of the job text, from 1; None where it is unknown.
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
