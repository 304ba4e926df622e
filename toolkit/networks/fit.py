"""A LoRA file brought to the one rank that a network has, where that changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.errors import UserError
from toolkit.lora.update import Update, exact_rank, truncated


def fit(updates: Mapping[str, Update], rank: int, *, source: str) -> dict[str, Update]:
    """The same changes, none of more than one rank, without rows of A that are zero.

    Where a file trains q, k and v apart, the released model's fused weight has the sum of their ranks, and other
    layers have less. An update of a larger rank than it needs is reduced.

    Raises:
        UserError: that rank is too small for the file, or all of the file is of a smaller one.
    """
    sizes = {name: update.rank if update.rank <= rank else exact_rank(update) for name, update in updates.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    if sizes[largest] != rank:
        why = ""
        if len(set(sizes.values())) > 1:
            why = f" ({largest}; others have {min(sizes.values())}, as where q, k and v were trained apart)"
        raise UserError(
            f"{source}: is of rank {sizes[largest]}{why}, network.linear is {rank}. Set network.linear: "
            f"{sizes[largest]}, or change the file: python -m toolkit.lora resize FILE --rank {rank} --output NEW_FILE"
        )
    return {name: _reduced(update, rank) for name, update in updates.items()}


def _reduced(update: Update, rank: int) -> Update:
    if update.rank > rank:
        return truncated(update, rank)[0]
    used = (update.a != 0).any(dim=1)
    return Update(update.a[used], update.b[:, used])
