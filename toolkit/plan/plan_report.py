"""Describes a memory plan in lines of text, and explains why a run does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toolkit.plan.changes import Way, frozen_weight_changes, training_changes, ways_to_fit
from toolkit.plan.machine import Machine
from toolkit.plan.memory_plan import Plan
from toolkit.plan.phases.phase import Phase
from toolkit.units import gigabytes

_MOST_WAYS = 3
_SMALL_SHARE = 0.01


def describe_plan(plan: Plan, machine: Machine) -> list[str]:
    """A table of the phases: how much GPU memory and RAM each takes, and what for; a column for each card."""
    has_gpu = plan.inputs.device != "cpu"
    num_cards = len(plan.card_peaks)
    gpus = ["GPU"] if num_cards == 1 else [f"GPU {index}" for index in range(num_cards)]
    rows = [("memory, GB", *(gpus if has_gpu else []), "RAM", "of which")]
    for phase in plan.phases:
        gpu = [gigabytes(size) for size in plan.card_bytes(phase)] if has_gpu else []
        rows.append((phase.name, *gpu, gigabytes(plan.ram_bytes(phase)), _parts(phase)))
    rooms = [*_rooms(machine), *[(None, None)] * num_cards][:num_cards]
    available = [_available(*room) for room in rooms] if has_gpu else []
    rows.append((machine.name, *available, _available(machine.ram_bytes, machine.free_ram_bytes), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]]).rstrip() for row in rows
    ]


def describe_split(plan: Plan) -> list[str]:
    """A line on which blocks are on which card; none if the model is on one device."""
    if plan.split is None:
        return []
    spread = ", ".join(f"{count} on GPU {index}" for index, count in enumerate(plan.split))
    return [
        f"split over GPUs: {sum(plan.split)} blocks, {spread}; text encoder, VAE and the ends of the model on GPU 0"
    ]


def warn_of_others(plan: Plan, machine: Machine) -> list[str]:
    """A warning if a run fits the machine, but not alongside the programs that are running now."""
    if machine.fits_now(plan):
        return []
    return ["warning: other programs are using memory that this run will need: close them first"]


def find_ways(plan: Plan, machine: Machine) -> tuple[Way, ...]:
    """The cheapest sets of changes that make a run fit."""
    groups = [*frozen_weight_changes(plan.inputs), *training_changes(plan.inputs)]
    return tuple(ways_to_fit(plan.inputs, machine, groups, most=_MOST_WAYS))


def describe_ways(ways: Iterable[Way], machine: Machine) -> list[str]:
    """One line for each way, with the keys to set and the resulting peak."""
    return [f"  {as_text(way.keys)}: {_peak(way, machine)}" for way in ways]


def describe_refusal(plan: Plan, machine: Machine, ways: Sequence[Way]) -> str:
    """Explain why a run does not fit a machine, and what would make it fit."""
    needed, available, phase = _lack(plan, machine)
    lines = [f"memory: the job needs {needed} ({phase.name}), and {available}."]
    fitting = ["Any of these makes it fit:", *describe_ways(ways, machine)]
    lines += fitting if ways else ["No change of settings makes it fit."]
    if not ways and plan.inputs.lora_rank is None:
        lines.append(
            "A LoRA needs far less than a full fine-tune: remove train.full_finetune and add a `network` section."
        )
    if plan.inputs.device == "cpu":
        lines.append("The job would run on this machine's CPU. To plan for a card, use --check --vram 24")
    return "\n".join(lines)


def as_text(settings: Mapping[str, Any]) -> str:
    """Keys and values as they are written in a job file."""
    return ", ".join(
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in settings.items()
    )


def _lack(plan: Plan, machine: Machine) -> tuple[str, str, Phase]:
    """What a run lacks most: how much it needs, how much there is, and the phase that needs it."""
    rooms = _rooms(machine)
    lacks = [0 if room is None else peak - room for peak, (room, _) in zip(plan.card_peaks, rooms, strict=False)]
    card = max(range(len(lacks)), key=lambda index: lacks[index])
    if lacks[card] > 0:
        where, owner = ("the card", machine.name) if plan.split is None else (f"GPU {card}", "it")
        needed = f"{gigabytes(plan.card_peaks[card])} GB on {where}"
        available = f"{owner} has {gigabytes(rooms[card][0] or 0)} GB"
        return needed, available, max(plan.phases, key=lambda phase: plan.card_bytes(phase)[card])
    assert machine.ram_bytes is not None, "a run that does not fit exceeds one or the other"
    available = f"this machine has {gigabytes(machine.ram_bytes)} GB"
    return f"{gigabytes(plan.peak_ram_bytes)} GB of RAM", available, max(plan.phases, key=plan.ram_bytes)


def _rooms(machine: Machine) -> list[tuple[int | None, int | None]]:
    """Memory of each card, and how much of it is free."""
    others = ((card.gpu_bytes, card.free_gpu_bytes) for card in machine.others)
    return [(machine.gpu_bytes, machine.free_gpu_bytes), *others]


def _peak(way: Way, machine: Machine) -> str:
    if machine.gpu_bytes is None:
        return f"{gigabytes(way.plan.peak_ram_bytes)} GB of RAM"
    gpu = " + ".join(map(gigabytes, way.plan.card_peaks))
    return f"{gpu} GB on the card{'s' if way.plan.split else ''}, {gigabytes(way.plan.peak_ram_bytes)} GB of RAM"


def _parts(phase: Phase) -> str:
    """What is in a phase; of several cards, on the fullest."""
    fullest = max((phase.device, *phase.others), key=lambda parts: sum(parts.values()))
    parts: dict[str, int] = {**fullest, **phase.host}
    least = _SMALL_SHARE * max(phase.tensor_bytes, 1)
    large = sorted(((size, name) for name, size in parts.items() if size > least), reverse=True)
    return ", ".join(f"{name} {gigabytes(size)}" for size, name in large)


def _available(total: int | None, free: int | None) -> str:
    if total is None:
        return "?"
    return gigabytes(total) if free == total or free is None else f"{gigabytes(total)} ({gigabytes(free)} free)"
