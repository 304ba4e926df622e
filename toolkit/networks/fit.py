"""Fits a LoRA file to the single rank of a network, if that is possible without any loss."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.errors import UserError
from toolkit.lora.update import Update, exact_rank, truncated


def fit(updates: Mapping[str, Update], rank: int, *, source: str) -> dict[str, Update]:
    """The same updates, each of at most rank `rank`, without rows of A that are zero.

    If a file trained q, k and v separately, the released model's fused weight has the sum of their ranks, and other
    layers have a lower rank. An update whose rank is larger than necessary is reduced.

    Raises:
        UserError: the rank is too small for the file, or larger than the rank of every update in the file.
    """
    sizes = {name: update.rank if update.rank <= rank else exact_rank(update) for name, update in updates.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    if sizes[largest] != rank:
        why = ""
        if len(set(sizes.values())) > 1:
            why = f" ({largest}; others have {min(sizes.values())}, as if q, k and v were trained separately)"
        raise UserError(
            f"{source}: has rank {sizes[largest]}{why}, but network.linear is {rank}. Set network.linear: "
            f"{sizes[largest]}, or change the file: python -m toolkit.lora resize FILE --rank {rank} --output NEW_FILE"
        )
    return {name: _reduced(update, rank) for name, update in updates.items()}


def _reduced(update: Update, rank: int) -> Update:
    if update.rank > rank:
        return truncated(update, rank)[0]
    used = (update.a != 0).any(dim=1)
    return Update(update.a[used], update.b[:, used])
