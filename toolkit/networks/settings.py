"""What a job says of the network on one layer, and the layer's shape: plain data, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The weight of a target, [outputs, inputs], which stacks the rows of `num_layers` layers of the loaded model."""

    inputs: int
    outputs: int
    num_layers: int = 1


@dataclass(frozen=True)
class LayerSettings:
    """The settings of a network on one layer.

    Attributes:
        rank: the job's `linear`, which each kind reads in its own way.
        scale: factor of the change, where the kind has one.
        dropout: share of the inner activations that is dropped in training.
    """

    rank: int
    scale: float = 1.0
    dropout: float = 0.0

    @property
    def draws_numbers(self) -> bool:
        """Whether a forward pass in training draws random numbers."""
        return self.dropout > 0
