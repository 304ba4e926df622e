"""Weights of a network that users get as a whole transformer, with the network merged in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from toolkit.models.saving import save_transformer
from toolkit.networks.merged import merged_state
from toolkit.networks.network import Network
from toolkit.runtime.devices import synchronize
from toolkit.train.trainable import NetworkWeights


class MergedWeights(NetworkWeights):
    """A network whose file is the whole model. What is trained, and what checkpoints resume from, stays the network.

    Args:
        network: the network.
        save_format: see `save_transformer`.
        strength: factor of the network in the file.
    """

    def __init__(self, network: Network, *, save_format: str, strength: float) -> None:
        super().__init__(network)
        self.save_format = save_format
        self.strength = strength

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write the transformer weight by weight, and compare the file before it replaces the old one.

        Raises:
            UserError: the written file differs from what is being trained.
        """
        model = self.network.model
        synchronize(model.device)  # offloaded blocks may still be on their way
        weights = merged_state(self.network, self.strength)
        return save_transformer(
            model, base, save_format=self.save_format, dtype=dtype, metadata=metadata, weights=weights
        )

    def describe(self) -> str:
        """See TrainableWeights."""
        return f"{super().describe()}; its files are the whole transformer with it merged in"
