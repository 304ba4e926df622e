"""The error message for a card that runs out of memory during a run."""

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

# Share of the predicted or available memory to aim for in the next run.
_TARGET_SHARE = 0.9


@contextmanager
def explain_out_of_memory(plan: Plan | None, device: str, stage: Callable[[], str]) -> Iterator[None]:
    """Within the `with` block, turn torch's out-of-memory error into a message that says what to do.

    Args:
        plan: memory plan of the run; None if there is none.
        device: torch device name of the run.
        stage: returns the name of the current stage.

    Raises:
        UserError: the card ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        text = f"memory: the card is full, in stage {stage()}. {error}"
        own_bytes = torch.cuda.memory_reserved() if torch.cuda.is_available() else 0
        raise UserError("\n".join([text, *advice(plan, this_machine(device), own_bytes)])) from error


def advice(plan: Plan | None, machine: Machine, own_bytes: int) -> list[str]:
    """Lines that say what other programs hold, what was predicted, and which changes make the run smaller.

    Args:
        plan: memory plan of the run; None if there is none.
        machine: the machine in its current state.
        own_bytes: GPU memory that this process holds.
    """
    lines = []
    total, free = machine.gpu_bytes or 0, machine.free_gpu_bytes or 0
    others = max(0, total - free - own_bytes)
    if others > GB:
        lines.append(f"Other programs hold {gigabytes(others)} of the {gigabytes(total)} GB: close them.")
    if plan is None:
        return [*lines, "There is no memory plan for this model. docs/vram.md lists settings that make runs smaller."]
    peak = plan.peak_gpu_bytes
    lines.append(f"The plan predicted at most {gigabytes(peak)} GB, and the card has {gigabytes(total)} GB.")
    smaller = replace(machine, gpu_bytes=round(_TARGET_SHARE * min(peak, total - others)))
    ways = describe_ways(find_ways(plan, smaller), smaller)
    return [*lines, *(["Any of these makes the run smaller:", *ways] if ways else [])]
