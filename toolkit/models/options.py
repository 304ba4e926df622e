"""What a run decides about its model beyond the `model` section of its job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ModelOptions:
    """Handed to the model when it is made; the defaults suit a model that is loaded whole and only used.

    Attributes:
        transformer_dtype: number format of the transformer's weights, fp32 where all of them are trained so; None: the
            model's dtype.
        notify: is given lines for the user while components are loaded.
        count: is told how far that is: how many are done, of how many, and of what.
        offload_shares: component -> share of its blocks that streams from host memory, 0 to 1, where the job leaves it
            to the memory plan (`auto`); None without a plan: all of them.
    """

    transformer_dtype: torch.dtype | None = None
    notify: Callable[[str], None] = print
    count: Callable[[int, int, str], None] = lambda done, total, unit: None
    offload_shares: Mapping[str, float] | None = None
