"""`logging`: how often metrics are recorded."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.section import Section, Shown


def _is_drawn(context: KeyContext) -> bool:
    return context.process.log_dir is not None or context.value == 1  # events.jsonl has every step


_WITH_TRACKER = OnlyWith("with `use_wandb` or `use_trackio`", lambda context: bool(context.section.trackers))


class LoggingConfig(Section):
    """`logging`: metrics in TensorBoard and experiment trackers. events.jsonl has those of every step."""

    log_every: Annotated[int, OnlyWith("for TensorBoard, which `log_dir` turns on", _is_drawn), Shown(unit="steps")] = (
        Field(10, ge=1, description="Steps between entries in TensorBoard; events.jsonl has every step.")
    )
    use_wandb: Annotated[bool, Shown(label="Weights & Biases")] = Field(
        False,
        description="Show losses and samples in Weights & Biases (`pip install -r requirements-trackers.txt`), with "
        "the account of WANDB_API_KEY. WANDB_MODE=offline keeps them on this machine.",
    )
    use_trackio: Annotated[bool, Shown(label="Trackio")] = Field(
        False,
        description="Show losses and samples in trackio, which keeps them on this machine (`trackio show`).",
    )
    project_name: Annotated[str, _WITH_TRACKER, Shown(label="Project")] = Field(
        "ai-toolkit", min_length=1, description="Project in the tracker."
    )
    run_name: Annotated[str | None, _WITH_TRACKER, Shown(label="Run")] = Field(
        None, description="Name of the run in the tracker. Default: the name of the job."
    )

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers that are used, by the names of their packages."""
        wanted = {"wandb": self.use_wandb, "trackio": self.use_trackio}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)
