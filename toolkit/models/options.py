"""What a run decides about its model beyond the job's `model` section."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from toolkit.cards import ModelCard
from toolkit.memory.placement import Split
from toolkit.parallel.weight_layout import WeightLayout, WholeWeights


@dataclass(frozen=True)
class ModelOptions:
    """Passed to the model's constructor; the defaults suit a model that is loaded whole and only used for inference.

    Attributes:
        transformer_dtype: number format of the transformer's weights, fp32 if all of them are trained in fp32; None
            means the model's dtype.
        notify: called with each line that the user should see while components are loaded.
        count: called with how much of a component is loaded: the number done, of how many, and of what.
        offload_shares: share of each component's blocks to stream from host memory, 0 to 1, by component, for jobs that
            leave it to the memory plan (`auto`); None, without a plan, means all blocks.
        split: the cards to split the transformer's blocks over, from the model's device on; None for no split.
        card: the card of the model as the run trains it; None for the one that its arch has.
        layout: which part of the transformer's weights this process holds.
        embeds_text: whether the transformer gets prompts that have been through its first layer for text already.
        without: components that the run does not load, whose files are not needed.
    """

    transformer_dtype: torch.dtype | None = None
    notify: Callable[[str], None] = print
    count: Callable[[int, int, str], None] = lambda done, total, unit: None
    offload_shares: Mapping[str, float] | None = None
    split: Split | None = None
    card: ModelCard | None = None
    layout: WeightLayout = WholeWeights()  # noqa: RUF009 - stateless
    embeds_text: bool = False
    without: frozenset[str] = frozenset()
