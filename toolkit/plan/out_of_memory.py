"""The error message for a card that runs out of memory during a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from toolkit.errors import UserError
from toolkit.plan.machine import Machine, Room, this_machine
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
        is_split = plan is not None and plan.split is not None
        machine = this_machine(device, is_split=is_split)
        used = range(1 + len(machine.others)) if is_split else [None]  # None: the current card
        own = [torch.cuda.memory_reserved(index) if torch.cuda.is_available() else 0 for index in used]
        raise UserError("\n".join([text, *advice(plan, machine, own)])) from error


def advice(plan: Plan | None, machine: Machine, own_bytes: Sequence[int]) -> list[str]:
    """Lines that say what other programs hold, what was predicted, and which changes make the run smaller.

    Args:
        plan: memory plan of the run; None if there is none.
        machine: the machine in its current state.
        own_bytes: memory that this process holds on each card of the run.
    """
    rooms = [Room(machine.name, machine.gpu_bytes or 0, machine.free_gpu_bytes or 0), *machine.others]
    others = [max(0, room.gpu_bytes - room.free_gpu_bytes - own) for room, own in zip(rooms, own_bytes, strict=True)]
    lines = [
        f"Other programs use {gigabytes(held)} of the {gigabytes(room.gpu_bytes)} "
        f"GB{f' of GPU {index}' if machine.others else ''}: close them."
        for index, (held, room) in enumerate(zip(others, rooms, strict=True))
        if held > GB
    ]
    if plan is None:
        return [*lines, "There is no memory plan for this model. docs/vram.md lists settings that make runs smaller."]
    totals = " + ".join(gigabytes(room.gpu_bytes) for room in rooms)
    peaks = " + ".join(map(gigabytes, plan.card_peaks))
    lines.append(
        f"The plan predicted at most {peaks} GB, and the cards have {totals} GB."
        if machine.others
        else f"The plan predicted at most {peaks} GB, and the card has {totals} GB."
    )
    first, *further = (
        replace(room, gpu_bytes=round(_TARGET_SHARE * min(peak, room.gpu_bytes - held)))
        for peak, room, held in zip(plan.card_peaks, rooms, others, strict=True)
    )
    smaller = replace(machine, gpu_bytes=first.gpu_bytes, others=tuple(further))
    ways = describe_ways(find_ways(plan, smaller), smaller)
    return [*lines, *(["Any of these makes the run smaller:", *ways] if ways else [])]
