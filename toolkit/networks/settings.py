"""What a job says about the network on one layer, and the layer's shape: plain data, readable without torch."""

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
        rank_dropout: share of the ranks that is dropped for a whole sample.
        module_dropout: probability that the layer is left unchanged for a whole pass.
        lr: learning rate of the weights; None for the job's.
        factor: LoKr's `lokr_factor`.
        is_full_rank: LoKr's `lokr_full_rank`.
    """

    rank: int
    scale: float = 1.0
    dropout: float = 0.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    lr: float | None = None
    factor: int = -1
    is_full_rank: bool = True

    @property
    def draws_numbers(self) -> bool:
        """Whether a forward pass in training draws random numbers."""
        return max(self.dropout, self.rank_dropout, self.module_dropout) > 0


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number up to `limit`; at least 1."""
    return next(size for size in range(min(limit, number), 0, -1) if number % size == 0)


def lokr_split(size: int, factor: int) -> tuple[int, int]:
    """The sides of LoKr's two matrices whose product is `size`, the smaller first.

    The smaller is the largest divisor up to `factor` and up to the root of `size`, if factor is not -1; or, if `factor`
    divides `size`, it and its counterpart. This is LyCORIS' rule, so that files have the shapes that others expect.
    """
    if factor > 0 and size % factor == 0:
        small = min(factor, size // factor)
    else:
        small = largest_divisor(size, int(size**0.5) if factor < 0 else min(factor, int(size**0.5)))
    return small, size // small


def lokr_rank(shape: Shape, settings: LayerSettings) -> int | None:
    """The rank of LoKr's larger matrix if it is itself a product; None if it is full. LyCORIS' rule."""
    larger = (lokr_split(shape.outputs, settings.factor)[1], lokr_split(shape.inputs, settings.factor)[1])
    return None if settings.is_full_rank or settings.rank >= max(larger) / 2 else settings.rank


def oft_block(shape: Shape, settings: LayerSettings) -> int:
    """The size of OFT's blocks: the largest up to the rank that fits the rows of each layer."""
    return largest_divisor(shape.outputs // shape.num_layers, settings.rank)
