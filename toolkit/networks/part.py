"""What a kind of network trains at one weight of the released model: the contract of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from toolkit.lora.layer_rows import Range, Roles
from toolkit.lora.update import Update
from toolkit.networks.settings import LayerSettings, Shape

Whole = Callable[[Tensor], Tensor]


class Start(Protocol):
    """Draws the start of a trained tensor: numbers in [0, 1), the same for equal arguments."""

    def __call__(self, shape: tuple[int, ...], role: str) -> Tensor:
        """Numbers of the given shape, fp32."""
        ...


@dataclass(frozen=True)
class Site:
    """One layer of the loaded model that a part changes.

    Attributes:
        index: position of the layer among those that the released weight fuses.
        ranges: the rows of the released weight that the layer has, in the layer's own order.
        layers: all layers that the released weight fuses; the own one is `layers[index]`.
    """

    index: int
    ranges: tuple[Range, ...]
    layers: tuple[nn.Module, ...]

    def rows(self, tensor: Tensor) -> Tensor:
        """The layer's rows of a tensor that has the rows of the released weight."""
        if len(self.ranges) == 1:
            start, stop = self.ranges[0]
            return tensor[start:stop]
        return torch.cat([tensor[start:stop] for start, stop in self.ranges])


class Part(nn.Module):
    """The trained weights of one kind at one weight of the released model. They are fp32; at first they change nothing.

    Rows are in the released model's order, and all layers that it fuses are changed as the one weight that they are
    there. So the change has the same shape and meaning in every program that reads the released model.

    Args:
        shape: shape of the released weight.
        settings: the job's settings for it.
        start: draws the start of random weights.
    """

    # Whether `before` changes the inputs of the layer.
    turns_inputs: ClassVar[bool] = False
    # Whether `update` gives the change.
    is_lora: ClassVar[bool] = False

    def __init__(self, shape: Shape, settings: LayerSettings, start: Start) -> None:
        super().__init__()
        self.shape = shape
        self.settings = settings

    def attach(self, sites: tuple[Site, ...], whole: Whole = Tensor.detach) -> None:
        """Learn the frozen layers, for kinds that depend on their weights. Called once, before the first step.

        Args:
            sites: the layers.
            whole: see `values`; all ranks attach all parts in the same order.
        """

    def before(self, x: Tensor, site: Site, strength: float) -> Tensor:
        """What the layer gets instead of its input x, [..., inputs]."""
        return x

    def after(self, x: Tensor, output: Tensor, site: Site, strength: float, *, training: bool) -> Tensor:
        """What the layer gives instead of its output.

        Args:
            x: input of the layer, [..., inputs].
            output: output of the layer, [..., rows of the layer].
            site: the layer.
            strength: factor of the change.
            training: whether dropout is on.
        """
        raise NotImplementedError

    def delta(self, weight: Tensor) -> Tensor:
        """The change of the released weight [outputs, inputs], fp32. For tests and merging: it is as large as that."""
        raise NotImplementedError

    def values(self, whole: Whole = Tensor.detach) -> Roles:
        """The trained weights by name; `whole` gathers each from all ranks if it is spread over them."""
        return {name: whole(parameter) for name, parameter in self.named_parameters()}

    def update(self, whole: Whole = Tensor.detach) -> Update | None:
        """The change as a LoRA, with the rows in the order of the loaded model's layers; None if it is not one."""
        return None

    def load(self, update: Update) -> None:
        """Take over an update of at most this part's rank, with its rows in the order of the loaded model's layers."""
        raise NotImplementedError

    def tensors(self, whole: Whole = Tensor.detach) -> Roles:
        """The tensors of a file by role (the key's end), fp32, with every scale folded in; see `values`."""
        raise NotImplementedError

    def read(self, roles: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` of another part returned.

        Raises:
            ValueError: roles or shapes do not fit this part.
        """
        raise NotImplementedError


def must_fit(roles: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError if the tensors are not those of these shapes."""
    found = {role: tuple(tensor.shape) for role, tensor in roles.items()}
    if found != dict(wanted):
        raise ValueError(f"has {_shapes(found)}, but the job trains {_shapes(wanted)}")


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{role} {' x '.join(map(str, shape))}" for role, shape in sorted(shapes.items())) or "nothing"


def kaiming(shape: tuple[int, int], role: str, start: Start) -> Tensor:
    """A random matrix [rows, columns], uniform within 1 / sqrt(columns).

    Source: Kaiming uniform with a = sqrt(5), He et al. 2015 (arXiv 1502.01852), as torch starts a linear layer.
    """
    return (start(shape, role) * 2 - 1) * (1 / shape[1] ** 0.5)
