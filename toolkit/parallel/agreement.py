"""Makes sure that all ranks train the same: the same job, data and versions before, the same weights between steps."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError
from toolkit.files import sha256_json
from toolkit.parallel.ranks import Ranks

if TYPE_CHECKING:  # a check imports no torch
    from torch import Tensor

_NAMED = 5
_CHUNK = 1 << 24


class OfAllRanks(UserError):
    """A mistake that all ranks have found together, so that its message needs no rank's name in front."""


def require_equal(ranks: Ranks, facts: Mapping[str, str | Mapping[str, str]]) -> None:
    """Compare what shapes the training on all ranks. All of them call this.

    Args:
        ranks: the processes that train together.
        facts: what it is -> its value, or many values by name, such as a file's hash.

    Raises:
        OfAllRanks: a rank differs from the first; the message names it, its machine, and what differs.
    """
    if ranks.world == 1:
        return
    told = [json.loads(text) for text in ranks.gather(json.dumps([socket.gethostname(), facts]))]
    (_, expected), *others = told
    lines = [
        f"  rank {rank} ({host}): {line}"
        for rank, (host, found) in enumerate(others, 1)
        for name in expected
        for line in _differences(name, expected[name], found.get(name, ""))
    ]
    if lines:
        raise OfAllRanks(
            "\n".join([f"The ranks differ from rank 0 ({told[0][0]}), so nothing was trained:", *lines])
            + "\nMake them equal, then start all ranks again."
        )


def _differences(name: str, expected: Any, found: Any) -> Sequence[str]:
    if expected == found:
        return ()
    if not isinstance(expected, Mapping) or not isinstance(found, Mapping):
        return (f"{name}: {found or 'none'} instead of {expected or 'none'}",)
    names = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
    shown = [f"{key} ({found.get(key, 'missing')} instead of {expected.get(key, 'none')})" for key in names[:_NAMED]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (f"{name}: {', '.join(shown)}{more}",)


def require_equal_weights(ranks: Ranks, weights: Sequence[Tensor]) -> None:
    """Compare the trained weights of all ranks, bit for bit. All of them call this.

    Raises:
        OfAllRanks: they differ; nothing may be saved.
    """
    if ranks.world == 1:
        return
    sums = ranks.gather(checksum(weights))
    others = [rank for rank, found in enumerate(sums) if found != sums[0]]
    if others:
        raise OfAllRanks(
            f"The weights of rank {', '.join(map(str, others))} differ from those of rank 0, although "
            "all ranks make the same updates. Nothing was saved since the last checkpoint. The usual cause is a card "
            "that computes wrongly: test each alone. If it happens on other cards too, please report it."
        )


def checksum(weights: Sequence[Tensor]) -> str:
    """A hash of all bits of the weights. They stay where they are: each adds one number, which depends on every bit."""
    import torch

    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = []
    for weight in weights:
        bits = weight.detach().reshape(-1).view(integers[weight.element_size()])
        parts = bits.split(_CHUNK)  # in int64 they take more room
        places = torch.arange(1, len(parts[0]) + 1, device=bits.device)
        sums.append(torch.stack([(part * places[: len(part)]).sum() for part in parts]))
    return sha256_json(torch.cat(sums).tolist())
