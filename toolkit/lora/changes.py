"""The change W' - W that a file of any kind makes to one weight; some kinds compute it from W itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from toolkit.lora.update import Update


class Change(Protocol):
    """The change of one weight."""

    @property
    def kind(self) -> str:
        """Name of the kind of change, such as `LoRA`."""

    @property
    def num_rows(self) -> int | None:
        """Number of rows that the weight must have; None if any number will do."""

    def delta(self, weight: Tensor) -> Tensor:
        """W' - W, [out, in], fp32.

        Args:
            weight: the unchanged weight W, [out, in], fp32.

        Raises:
            ValueError: the change was made for a weight of another shape.
        """


@dataclass(frozen=True)
class Product:
    """A LoRA, or a LoKr written as one: the change does not depend on the weight."""

    update: Update
    kind: str = "LoRA"

    @property
    def num_rows(self) -> int | None:
        """See Change.num_rows."""
        return self.update.b.shape[0]

    def delta(self, weight: Tensor) -> Tensor:
        """See Change.delta: B A."""
        return _same_shape(self.update.delta(), weight)


@dataclass(frozen=True)
class Hadamard:
    """LoHa: the elementwise product of two low-rank updates (Hyeon-Woo et al. 2021, arXiv 2108.06098)."""

    one: Update
    other: Update
    scale: float
    kind: str = "LoHa"

    @property
    def num_rows(self) -> int | None:
        """See Change.num_rows."""
        return self.one.b.shape[0]

    def delta(self, weight: Tensor) -> Tensor:
        """See Change.delta: scale * (B1 A1) o (B2 A2)."""
        return _same_shape(self.one.delta() * self.other.delta() * self.scale, weight)


@dataclass(frozen=True)
class Decomposed:
    """DoRA: separate changes of direction and length of each row (or column), Liu et al. 2024 (arXiv 2402.09353).

    Attributes:
        inner: the change that sets the direction.
        magnitude: new lengths of the rows, [out] or [out, 1], or of the columns, [1, in].
    """

    inner: Change
    magnitude: Tensor

    @property
    def kind(self) -> str:
        """See Change.kind."""
        return "DoRA" if self.inner.kind == "LoRA" else f"DoRA of {self.inner.kind}"

    @property
    def num_rows(self) -> int | None:
        """See Change.num_rows."""
        return self.inner.num_rows

    def delta(self, weight: Tensor) -> Tensor:
        """See Change.delta: m * (W + D) / |W + D| - W."""
        inner = self.inner.delta(weight)
        rows, columns = weight.shape
        is_by_row = self.magnitude.shape in {(rows,), (rows, 1)}
        if not is_by_row and self.magnitude.shape != (1, columns):
            raise ValueError(
                f"its magnitudes have shape {tuple(self.magnitude.shape)}, but the weight has {tuple(weight.shape)}"
            )
        turned = weight + inner
        lengths = turned.norm(dim=1 if is_by_row else 0, keepdim=True)  # [out, 1] or [1, in]
        factor = self.magnitude.float().view_as(lengths) / lengths
        # Not turned * factor - weight: early in training the change is smaller than the rounding of the weight.
        return (factor - 1) * weight + factor * inner


@dataclass(frozen=True)
class Generalized:
    """GLoRA as in LyCORIS: scale * (W A + B), with A and B of low rank (Chavan et al. 2023, arXiv 2306.07967)."""

    a: Update
    b: Update
    scale: float
    kind: str = "GLoRA"

    @property
    def num_rows(self) -> int | None:
        """See Change.num_rows."""
        return self.b.b.shape[0]

    def delta(self, weight: Tensor) -> Tensor:
        """See Change.delta."""
        if self.a.a.shape[1] != weight.shape[1] or self.a.b.shape[0] != weight.shape[1]:
            raise ValueError(_shape_mismatch((weight.shape[0], self.a.a.shape[1]), weight))
        return _same_shape((weight @ self.a.b @ self.a.a + self.b.delta()) * self.scale, weight)


@dataclass(frozen=True)
class Elementwise:
    """GLoRA as in peft: W o A + B, where A and B are matrices, columns or single numbers."""

    a: Tensor
    b: Tensor
    kind: str = "GLoRA"

    @property
    def num_rows(self) -> int | None:
        """See Change.num_rows."""
        return max(self.a.shape[0], self.b.shape[0]) if self.a.numel() > 1 else None

    def delta(self, weight: Tensor) -> Tensor:
        """See Change.delta."""
        for part in (self.a, self.b):
            if any(size not in (1, own) for size, own in zip(part.shape, weight.shape, strict=True)):
                raise ValueError(_shape_mismatch(tuple(part.shape), weight))
        return weight * self.a + self.b


@dataclass(frozen=True)
class Difference:
    """The change of a weight stored in full."""

    diff: Tensor
    kind: str = "full weight changes"

    @property
    def num_rows(self) -> int | None:
        """See Change.num_rows."""
        return self.diff.shape[0]

    def delta(self, weight: Tensor) -> Tensor:
        """See Change.delta."""
        return _same_shape(self.diff.float(), weight)


def _same_shape(delta: Tensor, weight: Tensor) -> Tensor:
    if delta.shape != weight.shape:
        raise ValueError(_shape_mismatch(tuple(delta.shape), weight))
    return delta


def _shape_mismatch(shape: tuple[int, ...], weight: Tensor) -> str:
    return f"has shape {list(weight.shape)}, but the file is for {list(shape)}, probably of another model"
