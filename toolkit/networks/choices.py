"""The kinds of network that a job can train: one row each, readable without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from toolkit.choice import Choice
from toolkit.networks.settings import LayerSettings, Shape


def _lora(shape: Shape, settings: LayerSettings) -> int:
    return settings.rank * (shape.inputs + shape.outputs)


@dataclass(frozen=True, kw_only=True)
class NetworkChoice(Choice):
    """A kind of network, whose target is a subclass of `Part`.

    Attributes:
        count: number of weights that it trains on a layer; a test holds it equal to what `Part` makes.
        is_proportional: whether that number is a multiple of the rank, so that a smaller rank saves memory in
            proportion.
        label: name of the kind in messages.
    """

    count: Callable[[Shape, LayerSettings], int]
    is_proportional: bool = False
    label: str


NETWORKS: dict[str, NetworkChoice] = {
    "lora": NetworkChoice(
        "toolkit.networks.kinds.lora:LoraPart",
        label="LoRA",
        summary="A product of two low-rank matrices, added to each layer's weight.",
        count=_lora,
        is_proportional=True,
    ),
}
