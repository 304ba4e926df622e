"""Whether the ranks of a run can share weights and sequences as the job asks; readable without torch."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.cards import ModelCard
from toolkit.config import TrainConfig
from toolkit.data.examples import Layout
from toolkit.errors import Problem
from toolkit.plan.needs import Needs

_ALONE = "has no effect in a single process; start one for each card: torchrun --nproc-per-node CARDS run.py JOB"
_KEY = "train.context_parallel"


def describe_sharing(train: TrainConfig, world: int) -> Iterator[str]:
    """Lines of the plan on what the ranks share.

    Args:
        train: the job's `train` section.
        world: number of ranks.
    """
    size = train.context_parallel
    if train.sharding == "full" and world == 1:
        yield f"warning: train.sharding: full {_ALONE}"
    elif train.sharding == "full":
        shared = "of the transformer's weights, and of their gradients and optimizer state"
        yield f"sharding: each of {world} ranks holds 1/{world} {shared}"
    if size > 1 and world == 1:
        yield f"warning: {_KEY}: {size} {_ALONE}"
    elif size > 1:
        yield f"context parallel: each sequence is shared by {size} of the {world} ranks"


def sharing_problems(train: TrainConfig, card: ModelCard, needs: Needs, world: int) -> Iterator[Problem]:
    """Problems with sharing weights or sequences as the job asks.

    Args:
        train: the job's `train` section.
        card: card of the run's model.
        needs: the needs of the run, with the sizes of all examples.
        world: number of ranks.
    """
    size = train.context_parallel
    if size == 1:
        return
    if "context_parallel" not in card.capabilities:
        yield Problem(_KEY, f"processes cannot share a sequence of {card.label}. Remove the key")
        return
    if card.num_heads % size:
        fitting = ", ".join(str(number) for number in range(2, 17) if card.num_heads % number == 0)
        what = f"{size} does not divide the {card.num_heads} attention heads of {card.label}; {fitting} do"
        yield Problem(_KEY, what)
    if world > 1 and world % size:
        yield Problem(_KEY, f"{world} ranks cannot be grouped by {size}. Start a multiple of {size}, or change the key")
    num_tokens = card.prompt_embeds_shape[0] - card.num_pooled_rows
    if num_tokens % size:
        yield Problem(_KEY, f"{size} does not divide the {num_tokens} tokens of a prompt")
    yield from _uneven(needs.trained, size, card.divisor_px)


def _uneven(layouts: tuple[Layout, ...], size: int, divisor_px: int) -> Iterator[Problem]:
    """The first picture whose tokens cannot be split evenly, with or without its references."""
    for layout in layouts:
        for part in dict.fromkeys((layout[:1], layout)):
            tokens = sum((width // divisor_px) * (height // divisor_px) for width, height in part)
            if tokens % size:
                what = f"{layout[0][0]} x {layout[0][1]} pixels" + (" with its references" if len(part) > 1 else "")
                yield Problem(
                    _KEY,
                    f"a picture of {what} has {tokens} tokens, which {size} processes cannot share evenly. Choose "
                    f"another number, or sizes whose sides are multiples of {divisor_px * size} pixels",
                )
                return
