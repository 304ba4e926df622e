"""`train.ema_config`: averages of the trained weights."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.section import Section, Shown


def _is_averaged(context: KeyContext) -> bool:
    ema = context.section
    return ema.use_ema or "use_ema" not in ema.model_fields_set  # a missing use_ema has a notice of its own


class EmaConfig(Section):
    """`train.ema_config`: a running average of the trained weights, used for saved weights and samples."""

    use_ema: Annotated[bool, Shown(label="Average the weights (EMA)")] = Field(
        False, description="Keep an average of the trained weights."
    )
    ema_decay: Annotated[
        float,
        OnlyWith("with `use_ema: true`", _is_averaged, is_switched=True),
        Shown(label="EMA decay", level="expert"),
    ] = Field(0.99, gt=0, lt=1, description="Share of the old average kept at each step.")
