"""`train.ema_config`: averages of the trained weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.output.bundles import SNAPSHOT
from toolkit.section import Harmless, Section, Shown

AVERAGE = "ema"  # part of a checkpoint with the average that users get
# Parts with power-function averages, each with its width, as a share of the training (arXiv 2312.02696, section 3).
SNAPSHOTS = {f"{SNAPSHOT}0050": 0.05, f"{SNAPSHOT}0100": 0.1}
RAW = "_raw"  # after the job's name, in files of the weights without averaging


def _is_averaged(context: KeyContext) -> bool:
    ema = context.section
    return ema.use_ema or "use_ema" not in ema.model_fields_set  # a missing use_ema has a notice of its own


_WITH_EMA = OnlyWith("with `use_ema: true`", _is_averaged, is_switched=True)


class EmaConfig(Section):
    """`train.ema_config`: running averages of the trained weights."""

    aliases: ClassVar[Mapping[str, str]] = {"use_ema_warmup": "ema_warmup"}

    use_ema: Annotated[bool, Shown(label="Average the weights (EMA)")] = Field(
        False, description="Keep an average of the trained weights, which is saved and sampled in their place."
    )
    ema_decay: Annotated[float, _WITH_EMA, Shown(label="EMA decay", level="expert")] = Field(
        0.99, gt=0, lt=1, description="Share of the old average kept at each step."
    )
    ema_warmup: Annotated[bool, _WITH_EMA, Shown(label="EMA warm-up", level="expert")] = Field(
        False,
        description="Start with a short average: after n steps, at most (1 + n) / (10 + n) of the old average is "
        "kept, so that the start of training is soon forgotten.",
    )
    save_raw: Annotated[Harmless[bool], _WITH_EMA, Shown(label="Save the raw weights too", level="expert")] = Field(
        False, description="Also write the weights without averaging, to files with `_raw` after the job's name."
    )
    power_ema: Annotated[Harmless[bool], Shown(label="Snapshots for averages of any width", level="expert")] = Field(
        False,
        description="Keep two power-function averages in every checkpoint, from which `python -m toolkit.lora ema` "
        "makes an average of any width after the training. 8 bytes for each trained weight, in memory and on disk for "
        "each checkpoint that `save.max_step_saves_to_keep` keeps.",
    )

    @property
    def num_averages(self) -> int:
        """Number of averages that are kept in memory."""
        return self.use_ema + len(SNAPSHOTS) * self.power_ema


def average_parts(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The averages in checkpoints of a run with these settings, as plain JSON."""
    ema = config["train"].get("ema_config")
    if not isinstance(ema, Mapping):
        return ()
    return (*((AVERAGE,) if ema.get("use_ema") else ()), *(SNAPSHOTS if ema.get("power_ema") else ()))
