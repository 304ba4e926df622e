"""Describes a memory plan in lines of text, and explains why a run does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toolkit.plan.changes import Way, frozen_weight_changes, training_changes, ways_to_fit
from toolkit.plan.machine import Machine
from toolkit.plan.memory_plan import Phase, Plan
from toolkit.units import gigabytes

_MOST_WAYS = 3
_SMALL_SHARE = 0.01


def describe_plan(plan: Plan, machine: Machine) -> list[str]:
    """A table of the phases: how much GPU memory and RAM each takes, and what for."""
    has_gpu = plan.inputs.device != "cpu"
    rows = [("memory, GB", *(["GPU"] if has_gpu else []), "RAM", "of which")]
    for phase in plan.phases:
        gpu = [gigabytes(plan.gpu_bytes(phase))] if has_gpu else []
        rows.append((phase.name, *gpu, gigabytes(plan.ram_bytes(phase)), _parts(phase)))
    available = [_available(machine.gpu_bytes, machine.free_gpu_bytes)] if has_gpu else []
    rows.append((machine.name, *available, _available(machine.ram_bytes, machine.free_ram_bytes), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]]).rstrip() for row in rows
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
    gpu, ram = plan.peak_gpu_bytes, plan.peak_ram_bytes
    if machine.gpu_bytes is not None and gpu > machine.gpu_bytes:
        phase = max(plan.phases, key=plan.gpu_bytes)
        needed, available = f"{gigabytes(gpu)} GB on the card", f"{machine.name} has {gigabytes(machine.gpu_bytes)} GB"
    else:
        phase = max(plan.phases, key=plan.ram_bytes)
        assert machine.ram_bytes is not None
        needed, available = f"{gigabytes(ram)} GB of RAM", f"this machine has {gigabytes(machine.ram_bytes)} GB"
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


def _peak(way: Way, machine: Machine) -> str:
    if machine.gpu_bytes is None:
        return f"{gigabytes(way.plan.peak_ram_bytes)} GB of RAM"
    return f"{gigabytes(way.plan.peak_gpu_bytes)} GB on the card, {gigabytes(way.plan.peak_ram_bytes)} GB of RAM"


def _parts(phase: Phase) -> str:
    parts: dict[str, int] = {**phase.device, **phase.host}
    least = _SMALL_SHARE * max(phase.tensor_bytes, 1)
    large = sorted(((size, name) for name, size in parts.items() if size > least), reverse=True)
    return ", ".join(f"{name} {gigabytes(size)}" for size, name in large)


def _available(total: int | None, free: int | None) -> str:
    if total is None:
        return "?"
    return gigabytes(total) if free == total or free is None else f"{gigabytes(total)} ({gigabytes(free)} free)"
