"""`logging`: how often figures are recorded."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from toolkit.config.remarks import Around, OnlyWith
from toolkit.section import Section, Shown


def _is_drawn(around: Around) -> bool:
    return around.process.log_dir is not None or around.value == 1  # events.jsonl has every step


class LoggingConfig(Section):
    """`logging`: the figures in TensorBoard. events.jsonl has those of every step."""

    log_every: Annotated[
        int, OnlyWith("for TensorBoard, which `log_dir` switches on", _is_drawn), Shown(unit="steps")
    ] = Field(10, ge=1, description="Steps between the figures in TensorBoard; events.jsonl has every step.")
