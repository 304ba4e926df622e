"""`logging`: how often figures are recorded."""

from __future__ import annotations

from pydantic import Field

from toolkit.section import Section


class LoggingConfig(Section):
    """`logging`: the figures in events.jsonl and TensorBoard."""

    log_every: int = Field(10, ge=1, description="Steps between recorded figures.")
