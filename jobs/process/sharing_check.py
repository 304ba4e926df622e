"""Checks whether the ranks of a run can share weights and sequences as the job asks."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.process.training_checked import TrainingChecked
from toolkit.data.examples import Layout
from toolkit.errors import JobError, Mistakes, Problem

_ALONE = "changes nothing in a single process; start one for each card: torchrun --nproc-per-node CARDS run.py JOB"
_KEY = "train.context_parallel"


def check_sharing(checked: TrainingChecked, mistakes: Mistakes) -> TrainingChecked:
    """Look at `train.sharding` and `train.context_parallel`. What is wrong is added to `mistakes`."""
    if problems := list(_problems(checked)):
        mistakes.errors.append(JobError(str(checked.start.job.path), problems))
    return checked if mistakes else checked.adding(*_lines(checked))


def _lines(checked: TrainingChecked) -> Iterator[str]:
    train, world = checked.config.train, checked.start.ranks.world
    if train.sharding == "full":
        shared = "of the transformer's weights, and of their gradients and optimizer state"
        yield (
            f"sharding: each of {world} ranks holds 1/{world} {shared}"
            if world > 1
            else (f"warning: train.sharding: full {_ALONE}")
        )
    if (size := train.context_parallel) > 1:
        groups = world // size
        yield (
            f"context parallel: {groups} group{'s' if groups > 1 else ''} of {size} ranks share each sequence"
            if (world > 1)
            else f"warning: {_KEY}: {size} {_ALONE}"
        )


def _problems(checked: TrainingChecked) -> Iterator[Problem]:
    card, size, world = checked.card, checked.config.train.context_parallel, checked.start.ranks.world
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
    if card.prompt_embeds_shape[0] % size:
        yield Problem(_KEY, f"{size} does not divide the {card.prompt_embeds_shape[0]} tokens of a prompt")
    yield from _uneven(checked, size)


def _uneven(checked: TrainingChecked, size: int) -> Iterator[Problem]:
    """Pictures whose tokens cannot be dealt evenly, with and without their references."""
    for layout in checked.needs.trained:
        if (uneven := next((part for part in (layout[:1], layout) if _num_tokens(checked, part) % size), None)) is None:
            continue
        (width, height), tokens = layout[0], _num_tokens(checked, uneven)
        what = f"{width} x {height} pixels" + (" with its references" if len(uneven) > 1 else "")
        yield Problem(
            _KEY,
            f"a picture of {what} has {tokens} tokens, which {size} processes cannot share evenly. Choose another "
            "number, or a datasets.resolution whose buckets fit: sides of multiples of "
            f"{checked.card.divisor_px * size} pixels always do",
        )
        return


def _num_tokens(checked: TrainingChecked, layout: Layout) -> int:
    divisor = checked.card.divisor_px
    return sum((width // divisor) * (height // divisor) for width, height in layout)
