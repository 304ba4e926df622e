"""The optimizers and learning rate schedules that a job may name: a row each, readable without torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from toolkit.choice import Choice
from toolkit.section import Section

BLOCK = 256  # values of an 8-bit state that share an fp32 scale
Share = Annotated[float, Field(ge=0, lt=1)]
Shape = tuple[int, ...]


class AdamParams(Section):
    """`train.optimizer_params`."""

    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Decay of the first and second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float | None = Field(
        None, ge=0, description="Weight decay. Unset: 0.01 for adamw and adamw8bit, 0 for adam."
    )


def as_weight(shape: Shape) -> tuple[Shape, ...]:
    """State that has a value for each weight."""
    return (shape,)


def in_blocks(shape: Shape) -> tuple[Shape, ...]:
    """State that is 8-bit blocks of values, and a scale for each of them."""
    num_blocks = math.ceil(math.prod(shape) / BLOCK)
    return (num_blocks, BLOCK), (num_blocks, 1)


@dataclass(frozen=True, kw_only=True)
class OptimizerChoice(Choice):
    """A `torch.optim.Optimizer` whose state is tensors. It is given the weights, `lr` and the keys of its `params`.

    Attributes:
        state_bytes: bytes of state for each trained weight.
        state_shapes: shapes that a tensor of the state may have beside a weight of this shape. It may always be one
            number, such as a count of steps.
    """

    state_bytes: float
    state_shapes: Callable[[Shape], tuple[Shape, ...]] = as_weight

    @property
    def memory(self) -> str:
        """See Choice."""
        return f"{self.state_bytes:.3g} bytes for each trained weight"


OPTIMIZERS = {
    "adamw": OptimizerChoice(
        "torch.optim:AdamW",
        says="Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101).",
        params=AdamParams,
        state_bytes=8.0,
    ),
    "adamw8bit": OptimizerChoice(
        "toolkit.optimizers.adamw8bit:AdamW8bit",
        says="AdamW that keeps each of its two moments in one byte per weight.",
        spellings=("adamw_8bit",),
        params=AdamParams,
        state_bytes=2 + 2 * 4 / BLOCK,
        state_shapes=in_blocks,
    ),
    "adam": OptimizerChoice(
        "torch.optim:Adam",
        says="Adam (Kingma & Ba 2015, arXiv 1412.6980); weight decay is part of the gradient.",
        params=AdamParams,
        state_bytes=8.0,
    ),
}


@dataclass(frozen=True, kw_only=True)
class ScheduleChoice(Choice):
    """A function of the share of the run that is done after warm-up, 0..1, to the share of lr, 1..0.

    Attributes:
        warmup_share: of the run, in which lr rises from 0 where the job does not say how long; at most 1000 steps.
    """

    warmup_share: float = 0.0


SCHEDULES = {
    "constant": ScheduleChoice("toolkit.optimizers.schedules:constant", says="The full rate throughout."),
    "constant_with_warmup": ScheduleChoice(
        "toolkit.optimizers.schedules:constant",
        says="The same after a warm-up, by default of a tenth of the run.",
        warmup_share=0.1,
    ),
    "cosine": ScheduleChoice("toolkit.optimizers.schedules:cosine", says="Half a cosine from lr down to `min_lr`."),
    "linear": ScheduleChoice("toolkit.optimizers.schedules:linear", says="A straight line from lr down to `min_lr`."),
}
