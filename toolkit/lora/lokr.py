"""Rewrites LoKr updates, which are Kronecker products of small matrices, as equal LoRA updates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toolkit.lora.update import Update

ROLES = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")

LARGEST = 1 << 30  # numbers in A or B; the largest layer of FLUX has 340 million


def expand(factors: Mapping[str, Tensor], alpha: float | None) -> Update:
    """The update `kron(w1, w2)`, exactly: kron(b1 @ a1, b2 @ a2) = kron(b1, b2) @ kron(a1, a2).

    Args:
        factors: tensors by role: `lokr_w1`, or its two factors `lokr_w1_a` @ `lokr_w1_b`; the same for `lokr_w2`.
        alpha: the update is scaled by alpha / rank if a factor is itself low-rank, as in LyCORIS. Otherwise alpha is
            ignored: programs write arbitrary numbers there.

    Raises:
        KeyError: a factor is missing.
        ValueError: a factor is not a matrix, or the factors do not fit together.
    """
    b1, a1 = _factors(factors, "lokr_w1")
    b2, a2 = _factors(factors, "lokr_w2")
    rank = low_rank(factors)
    if max(a1.numel() * a2.numel(), b1.numel() * b2.numel()) > LARGEST:
        raise ValueError(
            f"its LoKr factors give a matrix of {b1.shape[0] * b2.shape[0]:,} rows, larger than any model's"
        )
    scale = 1.0 if alpha is None or rank is None else alpha / rank
    return Update(torch.kron(a1, a2), torch.kron(b1, b2) * scale)


def low_rank(factors: Mapping[str, Tensor]) -> int | None:
    """The rank of the first factor that is itself a product; None if both are full."""
    return next((factors[role].shape[0] for role in ("lokr_w1_b", "lokr_w2_b") if role in factors), None)


def _factors(factors: Mapping[str, Tensor], role: str) -> tuple[Tensor, Tensor]:
    """B and A of `lokr_w1` or `lokr_w2`; a full matrix is multiplied by an identity of its smaller side."""
    for name in (role, f"{role}_a", f"{role}_b"):
        if name in factors and factors[name].ndim != 2:
            raise ValueError(f"{name} must be a matrix, but has shape {tuple(factors[name].shape)}")
    if role not in factors:
        if factors[f"{role}_a"].shape[1] != factors[f"{role}_b"].shape[0]:
            raise ValueError(f"{role}_a and {role}_b do not fit together")
        return factors[f"{role}_a"].float(), factors[f"{role}_b"].float()
    full = factors[role].float()
    rows, columns = full.shape
    if rows <= columns:
        return torch.eye(rows), full
    return full, torch.eye(columns)
