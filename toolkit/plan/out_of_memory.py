"""What the user is told when the card is full in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from toolkit.errors import UserError
from toolkit.plan.machine import Machine, this_machine
from toolkit.plan.memory_plan import Plan
from toolkit.plan.plan_report import describe_ways, find_ways
from toolkit.units import GB, gigabytes

# Of what was planned, or was there: what to aim at the next time.
_LESS = 0.9


@contextmanager
def explained(plan: Plan | None, device: str, stage: Callable[[], str]) -> Iterator[None]:
    """A `with` block in which torch's complaint of a full card becomes a message with a way out.

    Args:
        plan: of the run; None if there is none.
        device: that of the run, as torch names it.
        stage: which one the run is in.

    Raises:
        UserError: the card was full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        text = f"memory: the card is full, in stage {stage()}. {error}"
        own_bytes = torch.cuda.memory_reserved() if torch.cuda.is_available() else 0
        raise UserError("\n".join([text, *way_out(plan, this_machine(device), own_bytes)])) from error


def way_out(plan: Plan | None, machine: Machine, own_bytes: int) -> list[str]:
    """Lines on who holds the card, what had been predicted, and which changes make the run smaller.

    Args:
        plan: of the run.
        machine: as it is now.
        own_bytes: what this process holds of the card.
    """
    lines = []
    total, free = machine.gpu_bytes or 0, machine.free_gpu_bytes or 0
    others = max(0, total - free - own_bytes)
    if others > GB:
        lines.append(f"Other programs hold {gigabytes(others)} of the {gigabytes(total)} GB: close them.")
    if plan is None:
        return [*lines, "There is no plan for this model. docs/vram.md names the settings that make runs smaller."]
    peak = plan.peak_gpu_bytes
    lines.append(f"The plan had predicted {gigabytes(peak)} GB at most, and the card has {gigabytes(total)}.")
    smaller = replace(machine, gpu_bytes=round(_LESS * min(peak, total - others)))
    ways = describe_ways(find_ways(plan, smaller), smaller)
    return [*lines, *(["Any of these makes the run smaller:", *ways] if ways else [])]
