"""`logging`: how often metrics are recorded."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.section import Section, Shown


def _is_drawn(context: KeyContext) -> bool:
    return context.process.log_dir is not None or context.value == 1  # events.jsonl has every step


class LoggingConfig(Section):
    """`logging`: metrics in TensorBoard. events.jsonl has those of every step."""

    log_every: Annotated[int, OnlyWith("for TensorBoard, which `log_dir` turns on", _is_drawn), Shown(unit="steps")] = (
        Field(10, ge=1, description="Steps between metrics in TensorBoard; events.jsonl has every step.")
    )
