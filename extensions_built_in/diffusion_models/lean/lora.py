"""The LoRAs on a frozen linear layer during one pass: their products, and the gradients of what is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.compute.row_product import LowRank
from toolkit.runtime.devices import product_dtype


@dataclass(frozen=True)
class LoraRows:
    """One LoRA: what it adds to some rows of the weight, that is, columns of the output.

    Attributes:
        b: [rows, r], in the dtype of products, see `in_product_dtype`.
        rows: which of the weight.
        ranks: where its A is in `Lora.a`.
        scale: factor of the change: scale of the LoRA times its strength.
        heights: rows of each layer that shares its A.
    """

    b: Tensor
    rows: slice
    ranks: slice
    scale: float
    heights: Sequence[int]


@dataclass
class LoraGradients:
    """The gradients of a `Lora`.

    Attributes:
        a: of its A's, [R, K].
        b: of each part's B.
    """

    a: Tensor
    b: list[Tensor]

    def add_rows(self, other: LoraGradients, lora: Lora, start: int, stop: int) -> None:
        """Add the gradients of `lora.of_rows(start, stop)`."""
        found = lora._within(start, stop)
        self.a[_joined([lora.parts[index].ranks for index, _ in found])] += other.a
        for (index, rows), b in zip(found, other.b, strict=True):
            self.b[index][rows] += b

    def tensors(self, lora: Lora) -> list[Tensor]:
        """In the order of `LeanLinear.trained`."""
        found = []
        for part, b in zip(lora.parts, self.b, strict=True):
            found += [self.a[part.ranks], *b.split(list(part.heights))]
        return found


@dataclass(frozen=True)
class Lora:
    """What is trained at a linear layer: one or more LoRAs, whose A's are multiplied as one.

    Attributes:
        a: their A's one below the other, [R, K], in the dtype of products, see `in_product_dtype`.
        parts: the LoRAs, in the order of their rows.
    """

    a: Tensor
    parts: Sequence[LoraRows]

    def of_rows(self, start: int, stop: int) -> Lora | None:
        """What changes some rows of the weight; None if nothing does."""
        found = self._within(start, stop)
        if not found:
            return None
        ranks = _joined([self.parts[index].ranks for index, _ in found])
        parts = []
        for index, rows in found:
            own = self.parts[index]
            begin = own.rows.start + rows.start - start
            place = slice(begin, begin + rows.stop - rows.start)
            own_ranks = slice(own.ranks.start - ranks.start, own.ranks.stop - ranks.start)
            parts.append(LoraRows(own.b[rows], place, own_ranks, own.scale, [rows.stop - rows.start]))
        return Lora(self.a[ranks], parts)

    def inner(self, x: Tensor) -> Tensor:
        """`scale * x @ A.T` of x [M, K], [M, R]."""
        return self._scaled(x @ self.a.T)

    def updates(self, inner: Tensor) -> list[tuple[slice, LowRank]]:
        """What each LoRA adds to which columns of the output."""
        return [(part.rows, LowRank(inner[:, part.ranks], part.b.T)) for part in self.parts]

    def to_inner(self, gradient: Tensor) -> Tensor:
        """The gradient of what `inner` gave, [M, R], from that of the output [M, N]."""
        found = [gradient[:, part.rows] @ part.b for part in self.parts]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def to_input(self, to_inner: Tensor) -> LowRank:
        """What is added to the gradient of x, from what `to_inner` gave."""
        is_scaled = any(part.scale != 1 for part in self.parts)
        return LowRank(self._scaled(to_inner.clone()) if is_scaled else to_inner, self.a)

    def gradients(self, columns: Sequence[Tensor], inner: Tensor, gradient: Tensor, to_inner: Tensor) -> LoraGradients:
        """The gradients of what is trained.

        Args:
            columns: those of x, side by side, in any dtype.
            inner: what `inner` gave.
            gradient: of the output, [M, N].
            to_inner: what `to_inner` gave.
        """
        to_a = torch.empty_like(self.a)
        start = 0
        for part in columns:
            torch.mm(to_inner.T, in_product_dtype(part), out=to_a[:, start : start + part.shape[1]])
            start += part.shape[1]
        for own in self.parts:
            _scale(to_a[own.ranks], own.scale)
        return LoraGradients(to_a, [gradient[:, own.rows].T @ inner[:, own.ranks] for own in self.parts])

    def _scaled(self, inner: Tensor) -> Tensor:
        for part in self.parts:
            _scale(inner[:, part.ranks], part.scale)
        return inner

    def _within(self, start: int, stop: int) -> list[tuple[int, slice]]:
        """The LoRAs that change some of these rows: the index of each, and which rows of its B."""
        found = []
        for index, part in enumerate(self.parts):
            low, high = max(start, part.rows.start), min(stop, part.rows.stop)
            if low < high:
                found.append((index, slice(low - part.rows.start, high - part.rows.start)))
        return found


def in_product_dtype(x: Tensor) -> Tensor:
    """The same numbers in the dtype that they are multiplied in, see `product_dtype`."""
    return x.to(product_dtype(x.device, x.dtype))


def _scale(tensor: Tensor, scale: float) -> None:
    if scale != 1:
        tensor.mul_(scale)


def _joined(neighbours: Sequence[slice]) -> slice:
    return slice(neighbours[0].start, neighbours[-1].stop)
