"""The memory plan of a job on this machine, or on a card that the user names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from toolkit.config import TrainingProcessConfig
from toolkit.config.drawing.together import most_together
from toolkit.model_size import ModelSize
from toolkit.plan.auto import choose_settings, with_kept, with_preview, with_sample_batch, with_shares
from toolkit.plan.changes import Way
from toolkit.plan.machine import Machine, named_card, this_machine
from toolkit.plan.memory_plan import Plan, make_plan
from toolkit.plan.of_job.inputs import inputs_of
from toolkit.plan.plan_inputs import Device, PlanInputs, Workload
from toolkit.plan.plan_report import as_text, describe_plan, describe_refusal, describe_split, find_ways, warn_of_others


@dataclass(frozen=True)
class MemoryCheck:
    """A plan compared with the memory of a machine.

    Attributes:
        plan: the memory plan.
        machine: the machine that the plan is compared with.
        lines: description of the plan for the user; empty if it does not fit.
        settings: keys of the `model` section that the plan has chosen.
        refusal: why the plan does not fit; empty if it fits.
        ways: changes that would make it fit, the cheapest first.
    """

    plan: Plan
    machine: Machine
    lines: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""
    ways: tuple[Way, ...] = ()

    @property
    def device_name(self) -> str:
        """Name of the card, or the kind of another device."""
        return self.machine.name if self.plan.inputs.device == "cuda" else self.plan.inputs.device

    def as_json(self) -> dict[str, Any]:
        """Plain JSON: the phases, the machine, and the ways to fit."""
        plan = self.plan
        return {
            "device": plan.inputs.device,
            "device_name": self.device_name,
            "fits": not self.refusal,
            "peak_gpu_bytes": plan.peak_gpu_bytes,
            "peak_ram_bytes": plan.peak_ram_bytes,
            "card_peaks": plan.card_peaks,
            "split": plan.split,
            "phases": [
                {
                    "name": phase.name,
                    "stage": phase.stage,
                    "gpu_bytes": plan.gpu_bytes(phase),
                    "card_bytes": plan.card_bytes(phase),
                    "ram_bytes": plan.ram_bytes(phase),
                    "parts": {**phase.device, **phase.host},
                }
                for phase in plan.phases
            ],
            "machine": asdict(self.machine),
            "ways": [
                {
                    "settings": way.keys,
                    "peak_gpu_bytes": way.plan.peak_gpu_bytes,
                    "peak_ram_bytes": way.plan.peak_ram_bytes,
                }
                for way in self.ways
            ],
        }


def check_memory(
    process: TrainingProcessConfig,
    size: ModelSize,
    work: Workload,
    *,
    device: str | None,
    vram_gb: float | None,
    assistant_parameters: int | None = 0,
    adapter_parameters: int = 0,
    adapter_in_blocks: tuple[int, ...] = (),
    lora_sides: tuple[int, ...] | None = None,
    fixed_weights: tuple[int, ...] | None = None,
    num_cards: int = 0,
    ranks: int = 1,
    num_ranks: int = 1,
) -> MemoryCheck:
    """Plan the memory of a job; with `model.memory: auto`, also choose how its model is stored.

    Args:
        process: the job's training process.
        size: sizes of the job's model.
        work: the sizes of what goes through the model.
        device: a torch device name; None if the job's card is not in this machine.
        vram_gb: plan for a card of this many GB instead.
        assistant_parameters: number of weights of the assistant LoRA; None if it is not on disk: it is not counted.
        adapter_parameters: number of weights of the adapters that are trained.
        adapter_in_blocks, lora_sides: see `PlanInputs`.
        fixed_weights: see `PlanInputs.fixed_weights`; None if unknown.
        num_cards: the number of cards that the model is split over; 0 if it is not.
        ranks: number of processes that train together, each on a card of its own.
        num_ranks: number of processes on the machine that train together; the plan is that of each.

    Returns:
        The plan; if it does not fit, also the cheapest changes that make it fit.

    Raises:
        UserError: `model.memory: auto` finds no choice that fits.
    """
    kind: Device = "mps" if device == "mps" else "cpu" if device == "cpu" else "cuda"
    if vram_gb is not None:
        kind, machine = "cuda", named_card(vram_gb, count=max(1, num_cards))
    elif device is None:
        machine = Machine("the job's card is not in this machine")
    else:
        machine = this_machine(device, is_split=num_cards > 0).shared_by(num_ranks)

    def inputs_for(config: TrainingProcessConfig) -> PlanInputs:
        return inputs_of(
            config,
            size,
            work,
            kind,
            assistant_parameters=assistant_parameters or 0,
            adapter_parameters=adapter_parameters,
            adapter_in_blocks=adapter_in_blocks,
            lora_sides=lora_sides,
            fixed_weights=fixed_weights,
            cards=machine.rooms(num_cards) if kind != "cpu" else (),
            ranks=ranks,
        )

    inputs = inputs_for(process)
    settings: dict[str, Any] = {}
    chosen = process
    if process.model.memory == "auto":
        settings = choose_settings(process.model, inputs, machine)
        chosen = process.model_copy(update={"model": process.model.with_settings(settings)})
        inputs = inputs_for(chosen)
    inputs = with_preview(with_kept(with_shares(chosen.model, inputs, machine), machine), machine)
    if process.sample.batch_size == "auto":
        inputs = with_sample_batch(inputs, machine, most=most_together(process))
    plan = make_plan(inputs)
    if not machine.fits(plan):
        ways = find_ways(plan, machine)
        return MemoryCheck(plan, machine, settings=settings, refusal=describe_refusal(plan, machine, ways), ways=ways)
    lines = [*describe_plan(plan, machine), *describe_split(plan), *warn_of_others(plan, machine)]
    if assistant_parameters is None:
        lines.append("memory: model.assistant_lora_path is not on disk yet, so its weights are not counted")
    if plan.inputs.keeps > 1:
        share = f"{plan.inputs.keeps - 1:.0%}"
        lines.append(
            f"memory: there is room for {share} of the blocks to keep everything instead of recomputing it in the "
            "backward pass"
        )
    if plan.inputs.sample_batch > 1:
        lines.append(f"memory: up to {plan.inputs.sample_batch} pictures are drawn in one batch")
    if plan.inputs.preview != "never":
        times = "once: they stay loaded" if plan.inputs.preview == "run" else "for each round of samples, then freed"
        lines.append(f"memory: the weights that samples are drawn on are loaded {times}")
    if process.model.memory == "auto":
        lines.append(f"model.memory: auto chose {_chosen(settings)}")
    return MemoryCheck(plan, machine, tuple(lines), settings)


def _chosen(settings: Mapping[str, Any]) -> str:
    return as_text(settings) if settings else "nothing: the job fits as it is"
