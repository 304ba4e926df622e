"""One row of the table of optimizers: all that the rest of the program knows of a kind, readable without torch."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from toolkit.choice import Choice
from toolkit.optimizers.params import AnyParams

_NEEDED = ("toolkit", "torch", "transformers")  # packages that every job needs
BLOCK = 256  # number of values in a state of few bits that share an fp32 scale
LARGEST_ADAM_LR = 1e-2  # each step moves a weight by about lr: larger ones ruin a LoRA in a few steps
FINDER_LR = 1.0  # of optimizers that find the step size: lr is a factor of it
SMALLEST_FINDER_LR = 0.1
SCALE_BYTES = 4 / BLOCK
ANY_CLASS = "package.Class"
CLASS = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+"  # what a job writes for a class of its own
Shape = tuple[int, ...]

_TYPICAL: Shape = (16, 3072)  # a matrix of a rank-16 LoRA on a layer of klein


@dataclass(frozen=True, kw_only=True)
class OptimizerChoice(Choice):
    """A `torch.optim.Optimizer`, constructed with the weights, `lr`, the keys of `params`, and `fixed`.

    Attributes:
        state_bytes: bytes of state per trained weight, where that does not depend on the shape.
        bytes_of_shape: bytes of state of a weight of some shape, where it does.
        largest_lr: learning rates from this value on are probably meant for another kind of optimizer; None if any
            rate is plausible.
        finds_its_rate: whether it finds the step size, and `lr` is a factor of it that should be 1. There is one step
            size, so that all weights have the same `lr`.
        keeps_average: whether users get an average of the weights that the optimizer keeps.
        is_single: whether weights can be updated one at a time: in the middle of the backward pass, or in bf16.
        is_shardable: whether the rows of a weight can be updated apart from each other.
        needs_one_card: whether all weights must be on one card.
        is_batched: whether it computes something for all weights at once, which takes as much memory.
        is_elementwise: whether it updates each number by itself, in fp32, so that weights can be joined to long ones.
        library: what to install; empty if it comes with the trainer.
        fixed: options of the constructor that cannot be set here.
        lr: the learning rate to begin with, for the documentation.
        takes: what it is good for, for the documentation.
        notice: what to tell a user who chooses it; empty if nothing.
    """

    state_bytes: float = 0.0
    bytes_of_shape: Callable[[Shape], float] | None = None
    largest_lr: float | None = None
    finds_its_rate: bool = False
    keeps_average: bool = False
    is_single: bool = True
    is_shardable: bool = True
    needs_one_card: bool = False
    is_batched: bool = False
    is_elementwise: bool = False
    library: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict, hash=False)
    lr: str = "1e-4"
    takes: str = ""
    notice: str = ""

    def __post_init__(self) -> None:
        if self.bytes_of_shape is not None:
            object.__setattr__(self, "state_bytes", self.bytes_of_shape(_TYPICAL) / math.prod(_TYPICAL))

    def num_bytes(self, shape: Shape) -> float:
        """Bytes of state of a weight of this shape."""
        return self.state_bytes * math.prod(shape) if self.bytes_of_shape is None else self.bytes_of_shape(shape)

    @property
    def memory(self) -> str:
        """See Choice."""
        return f"{self.state_bytes:.3g} bytes per trained weight"

    @property
    def is_installed(self) -> bool:
        """Whether its library is there; those that every job needs are not looked for."""
        package = self.target.partition(":")[0].partition(".")[0]
        return package in _NEEDED or importlib.util.find_spec(package) is not None


def is_class(name: Any) -> bool:
    """Whether a job names a class, as `package.Class`, instead of a row."""
    return isinstance(name, str) and re.fullmatch(CLASS, name.strip()) is not None


def row_of_class(name: str) -> OptimizerChoice:
    """A row for a class of the user's, such as `package.Class`."""
    module, _, kind = name.rpartition(".")
    return OptimizerChoice(
        f"{module}:{kind}",
        summary="A class of your own.",
        params=AnyParams,
        state_bytes=16.0,  # nothing is known of it: as much as four fp32 values
        is_single=False,
        is_shardable=False,
        is_batched=True,
    )


def factored(shape: Shape, *, tensors: int = 1, whole: float = 0.0) -> float:
    """Bytes of fp32 means of the rows and columns of a matrix, `tensors` times, plus `whole` bytes for each value."""
    size = math.prod(shape)
    if len(shape) < 2:
        return size * (4 + whole)
    return 4 * tensors * (size / shape[-1] + size / shape[-2]) + whole * size


def muon(shape: Shape) -> float:
    """Bytes of the momentum of a matrix, or of AdamW's two moments."""
    return math.prod(shape) * (4.0 if len(shape) > 1 else 8.0)


def prodigy_free(shape: Shape) -> float:
    """Bytes of z, of every eleventh value of the start and of s in bf16, and of a factored second moment."""
    size = math.prod(shape)
    is_factored = len(shape) > 1 and max(shape) >= 32
    return size * 4 + math.ceil(size / 11) * 2 * 2 + (factored(shape) if is_factored else 4 * size)
