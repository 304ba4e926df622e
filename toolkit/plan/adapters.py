"""What the adapters of a job read and how large they are; readable without torch."""

from __future__ import annotations

from collections.abc import Iterable

from toolkit.adapters.view_shape import ViewShape
from toolkit.cards import ModelCard
from toolkit.config import AdapterConfig
from toolkit.encode.vision import local_view_shape, view_shape


def shape_of(config: AdapterConfig) -> ViewShape | None:
    """The size of what an adapter's vision encoder makes of an image; None if it reads none.

    Raises:
        UserError: the encoder is missing, or is not one.
    """
    return view_shape(config)


def count_weights(configs: Iterable[AdapterConfig], card: ModelCard) -> int:
    """Number of weights of all adapters, but for those whose vision encoder is not on this machine yet.

    Raises:
        UserError: see `shape_of`.
    """
    if card.size is None:
        return 0
    shapes = [(config, local_view_shape(config)) for config in configs]
    return sum(
        config.choice.count(config, card, shape)
        for config, shape in shapes
        if shape is not None or config.choice.reads != "view"
    )
