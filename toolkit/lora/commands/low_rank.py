"""The nearest LoRA to any change of a weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.lora.update import Update, resized, singular_values


@dataclass(frozen=True)
class Goal:
    """How good a LoRA has to be: at most of a rank, or with at least a share of the energy (squared Frobenius norm).

    Attributes:
        rank: largest rank; None for any.
        energy: share of the energy that is kept, above 0 and at most 1; None for all that the rank can hold.
    """

    rank: int | None = None
    energy: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything is asked for."""
        return self.rank is not None or self.energy is not None


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
    rank = min(goal.rank or len(energies), len(energies))
    if goal.energy is not None and total > 0:
        enough = int((energies.cumsum(0) < goal.energy * total).sum()) + 1
        rank = min(rank, enough)
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
    if goal.energy is None:
        return resized(update, goal.rank or update.rank)
    energies = singular_values(update).square()
    enough = int((energies.cumsum(0) < goal.energy * energies.sum()).sum()) + 1
    return resized(update, min(enough, update.rank, goal.rank or update.rank))
