"""A step takes as many batches as before when a run continues with another number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.errors import UserError
from toolkit.output.bundles import Bundle

ASKED, PER_STEP = "asked_accumulation", "batches_per_step"


@dataclass(frozen=True)
class StepBatches:
    """How the batches of a step are shared.

    Attributes:
        accumulation: batches per step on each rank.
        notice: what the user should know about it; None if it is what the job file says.
    """

    accumulation: int
    notice: str | None = None


def step_batches(bundle: Bundle | None, *, asked: int, ranks: int, can_accumulate: bool, accepts: bool) -> StepBatches:
    """Share the batches of a step among the ranks.

    A run that resumes from a bundle takes as many batches a step as it did before, whatever the number of ranks, unless
    the job file's own number has changed since, which counts as a changed setting.

    Args:
        bundle: the bundle to resume from, if any.
        asked: the job's `train.gradient_accumulation`.
        ranks: number of processes that train together.
        can_accumulate: whether a rank may take more than one batch a step.
        accepts: whether the user accepts changed settings; then the job file is followed.

    Raises:
        UserError: the batches cannot be shared equally among so many ranks.
    """
    if bundle is None:
        return StepBatches(asked)
    written, wrote, world = _written(bundle, asked)
    total = bundle.manifest.get(PER_STEP, wrote * world)
    if not isinstance(total, int) or total == asked * ranks or written != asked or accepts:
        return StepBatches(asked)
    possible = [number for number in range(1, total + 1) if total % number == 0 and (can_accumulate or number == total)]
    if ranks not in possible:
        *others, last = map(str, possible)
        numbers = f"{', '.join(others)} or {last}" if others else last
        raise UserError(
            f"{bundle.folder}: the run takes {_batches(total)} a step, which {_ranks(ranks)} cannot share equally. "
            f"Resume it with {numbers} {'ranks' if total > 1 else 'rank'}, or add --accept-config-change to take "
            f"{_batches(asked * ranks)} a step from here on."
        )
    each = f"with {_ranks(ranks)}, each accumulates over {_batches(total // ranks)}"
    notice = f"{_ranks(world)} reached step {bundle.step}; {each}, so that a step takes {total} as before"
    return StepBatches(total // ranks, notice)


def _written(bundle: Bundle, asked: int) -> tuple[Any, int, int]:
    """The accumulation in the bundle's job file, the accumulation of its run, and its number of ranks.

    What is missing or damaged is taken to be as now: comparing the settings names what is wrong.
    """
    config, world = bundle.manifest.get("config"), bundle.manifest.get("world", 1)
    train = config.get("train") if isinstance(config, Mapping) else None
    wrote = train.get("gradient_accumulation") if isinstance(train, Mapping) else None
    wrote = wrote if isinstance(wrote, int) else asked
    return bundle.manifest.get(ASKED, wrote), wrote, world if isinstance(world, int) else 1


def _batches(number: int) -> str:
    return "1 batch" if number == 1 else f"{number} batches"


def _ranks(number: int) -> str:
    return "1 rank" if number == 1 else f"{number} ranks"
