"""The optimizers that a job can choose: one row each, readable without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from toolkit.choice import Choice
from toolkit.section import Section

BLOCK = 256  # number of values in an 8-bit state that share an fp32 scale
LARGEST_ADAM_LR = 1e-2  # each step moves a weight by about lr: larger ones ruin a LoRA in a few steps
Share = Annotated[float, Field(ge=0, lt=1)]
Shape = tuple[int, ...]


class AdamParams(Section):
    """`train.optimizer_params`."""

    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Decay rates of the first and second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float | None = Field(
        None, ge=0, description="Weight decay. Unset: 0.01 for adamw and adamw8bit, 0 for adam."
    )


def as_weight(shape: Shape) -> tuple[Shape, ...]:
    """State with one value per weight."""
    return (shape,)


def in_blocks(shape: Shape) -> tuple[Shape, ...]:
    """State in 8-bit blocks of values, with a scale for each block."""
    num_blocks = math.ceil(math.prod(shape) / BLOCK)
    return (num_blocks, BLOCK), (num_blocks, 1)


@dataclass(frozen=True, kw_only=True)
class OptimizerChoice(Choice):
    """A `torch.optim.Optimizer` whose state is tensors, constructed with the weights, `lr` and the keys of `params`.

    Attributes:
        state_bytes: bytes of state per trained weight.
        state_shapes: maps a weight's shape to the shapes that its state tensors can have. State can also be a single
            number, such as a step count.
        largest_lr: learning rates from this value on are probably meant for another kind of optimizer; None if any
            rate is plausible.
    """

    state_bytes: float
    state_shapes: Callable[[Shape], tuple[Shape, ...]] = as_weight
    largest_lr: float | None = None

    @property
    def memory(self) -> str:
        """See Choice."""
        return f"{self.state_bytes:.3g} bytes per trained weight"


def lr_that_fits(train: Mapping[str, Any]) -> str:
    """Advice on `lr` for a user who has to replace another program's optimizer with one of these; may be empty."""
    lr = train.get("lr")
    if isinstance(lr, bool) or not isinstance(lr, int | float) or lr < LARGEST_ADAM_LR:
        return ""
    return f", and `lr: 1e-4` with it: {lr:g} is meant for optimizers that choose their own step size"


OPTIMIZERS = {
    "adamw": OptimizerChoice(
        "torch.optim:AdamW",
        summary="Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101).",
        elsewhere=dict.fromkeys(("adamw_torch", "adamw_fused", "adamw_torch_fused", "adamw_bf16"), "`adamw`"),
        params=AdamParams,
        state_bytes=8.0,
        largest_lr=LARGEST_ADAM_LR,
    ),
    "adamw8bit": OptimizerChoice(
        "toolkit.optimizers.adamw8bit:AdamW8bit",
        summary="AdamW that stores each of its two moments in one byte per weight.",
        spellings=("adamw_8bit",),
        elsewhere=dict.fromkeys(("paged_adamw_8bit", "pagedadamw8bit", "adamw_bnb_8bit", "adamw_4bit"), "`adamw8bit`"),
        params=AdamParams,
        state_bytes=2 + 2 * 4 / BLOCK,
        state_shapes=in_blocks,
        largest_lr=LARGEST_ADAM_LR,
    ),
    "adam": OptimizerChoice(
        "torch.optim:Adam",
        summary="Adam (Kingma & Ba 2015, arXiv 1412.6980); weight decay is part of the gradient.",
        params=AdamParams,
        state_bytes=8.0,
        largest_lr=LARGEST_ADAM_LR,
    ),
}
