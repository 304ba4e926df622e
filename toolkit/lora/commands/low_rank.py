"""The nearest LoRA to any change of a weight."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from toolkit.lora.update import Update, resized, singular_values


@dataclass(frozen=True)
class Goal:
    """How good a LoRA has to be. Of several limits, the lowest rank counts; a rank is at least 1.

    Attributes:
        rank: largest rank; None for any.
        energy: share of the energy (squared Frobenius norm) that is kept, above 0 and at most 1; None for all that the
            rank can hold.
        threshold: singular values above it are kept; None for all.
        ratio: singular values above this share of the largest are kept, 0 to 1; None for all.
        quantile: the largest singular values whose sum is below this share of that of all are kept, above 0 and at most
            1; None for all.
    """

    rank: int | None = None
    energy: float | None = None
    threshold: float | None = None
    ratio: float | None = None
    quantile: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything is asked for."""
        return any(getattr(self, one.name) is not None for one in fields(self))

    def rank_of(self, energies: Tensor) -> int:
        """The rank for a change with these squared singular values, [n], in descending order."""
        values, ranks = energies.sqrt(), [self.rank or len(energies), len(energies)]
        if self.energy is not None:
            ranks.append(int((energies.cumsum(0) < self.energy * energies.sum()).sum()) + 1)
        if self.threshold is not None:
            ranks.append(int((values > self.threshold).sum()))
        if self.ratio is not None:
            ranks.append(int((values > self.ratio * values[0]).sum()))
        if self.quantile is not None:
            ranks.append(int((values.cumsum(0) < self.quantile * values.sum()).sum()))
        return max(1, min(ranks))


def nearest(delta: Tensor, goal: Goal) -> tuple[Update, float]:
    """The nearest LoRA to a change [out, in], and its relative error (Frobenius norm).

    Source: Eckart and Young 1936. The singular vectors are eigenvectors of the Gram matrix of the smaller side, in
    fp64: exact down to 1e-8 of the largest singular value, below which bf16 weights have only rounding errors.
    """
    delta = delta.double()
    is_wide = delta.shape[0] < delta.shape[1]
    gram = delta @ delta.T if is_wide else delta.T @ delta
    values, vectors = torch.linalg.eigh(gram)  # in ascending order
    energies = values.clamp(min=0).flip(0)
    total = float(energies.sum())
    rank = goal.rank_of(energies)
    basis = vectors.flip(1)[:, :rank]  # [side, rank]
    root = energies[:rank].sqrt().sqrt().clamp(min=1e-30)
    # Both matrices get the root of the singular values, so that neither overflows in fp16.
    if is_wide:
        b, a = basis * root, (basis / root).T @ delta
    else:
        b, a = delta @ (basis / root), (basis * root).T
    lost = (float(energies[rank:].sum()) / total) ** 0.5 if total > 0 else 0.0
    return Update(a.float(), b.float()), lost


def reduced(update: Update, goal: Goal) -> tuple[Update, float]:
    """A LoRA at the rank of the goal, and the share of it that was lost (0 if the rank grows)."""
    if goal == Goal(goal.rank):
        return resized(update, goal.rank or update.rank)
    return resized(update, min(update.rank, goal.rank_of(singular_values(update).square())))
