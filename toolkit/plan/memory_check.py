"""The memory plan of a job on the machine at hand, or on a card that the user names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toolkit.config import ProcessConfig
from toolkit.model_size import ModelSize
from toolkit.plan.auto import choose_settings, with_settings, with_shares
from toolkit.plan.machine import Machine, named_card, this_machine
from toolkit.plan.memory_plan import Plan, make_plan
from toolkit.plan.plan_inputs import Device, Workload, inputs_of
from toolkit.plan.plan_report import as_text, describe_plan, refuse_what_does_not_fit


@dataclass(frozen=True)
class MemoryCheck:
    """A plan that fits.

    Attributes:
        plan: the plan.
        lines: for the user.
        settings: keys of the `model` section that the plan has chosen.
    """

    plan: Plan
    lines: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def check_memory(
    process: ProcessConfig,
    size: ModelSize,
    work: Workload,
    *,
    device: str | None,
    vram_gb: float | None,
    assistant_parameters: int | None = 0,
    lora_sides: tuple[int, ...] | None = None,
) -> MemoryCheck:
    """Plan a job, with `model.memory: auto` also how its model is held.

    Args:
        process: the job.
        size: of its model.
        work: what goes through the model.
        device: a torch device name; None if the job's card is not in this machine.
        vram_gb: plan for a card of this size instead.
        assistant_parameters: weights of the assistant LoRA; None: it is not here, and is not counted.
        lora_sides: see `PlanInputs`.

    Raises:
        UserError: it does not fit, with the cheapest changes that make it fit.
    """
    kind: Device = "mps" if device == "mps" else "cpu" if device == "cpu" else "cuda"
    if vram_gb is not None:
        kind, machine = "cuda", named_card(vram_gb)
    else:
        machine = Machine("the job's card is not here") if device is None else this_machine(device)
    counted = assistant_parameters or 0
    inputs = inputs_of(process, size, work, kind, assistant_parameters=counted, lora_sides=lora_sides)
    settings: dict[str, Any] = {}
    chosen = process
    if process.model.memory == "auto":
        settings = choose_settings(process.model, inputs, machine)
        chosen = process.model_copy(update={"model": with_settings(process.model, settings)})
        inputs = inputs_of(chosen, size, work, kind, assistant_parameters=counted, lora_sides=lora_sides)
    plan = make_plan(with_shares(chosen.model, inputs, machine))
    lines = [*describe_plan(plan, machine), *refuse_what_does_not_fit(plan, machine)]
    if assistant_parameters is None:
        lines.append("memory: model.assistant_lora_path is not here yet, so its weights are not counted")
    if process.model.memory == "auto":
        lines.append(f"model.memory: auto chose {_chosen(settings)}")
    return MemoryCheck(plan, tuple(lines), settings)


def _chosen(settings: Mapping[str, Any]) -> str:
    return as_text(settings) if settings else "nothing: the job fits as it is"
