"""The kinds of network that a job can train: one row each, readable without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from toolkit.choice import Choice
from toolkit.networks.settings import LayerSettings, Shape, lokr_rank, lokr_split


def _lora(shape: Shape, settings: LayerSettings) -> int:
    return settings.rank * (shape.inputs + shape.outputs)


def _lokr(shape: Shape, settings: LayerSettings) -> int:
    (o1, o2), (i1, i2) = (lokr_split(size, settings.factor) for size in (shape.outputs, shape.inputs))
    rank = lokr_rank(shape, settings)
    return o1 * i1 + (o2 * i2 if rank is None else rank * (o2 + i2))


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
    "lokr": NetworkChoice(
        "toolkit.networks.kinds.lokr:LokrPart",
        label="LoKr",
        summary="A Kronecker product of two small matrices, added to each layer's weight: full rank from few weights.",
        count=_lokr,
    ),
}
