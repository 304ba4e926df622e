"""What the memory plan says of a training run, before any weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.process.inputs import captions, needs_vae, reference_rules, sample_items
from toolkit.cards import ModelCard
from toolkit.config import ProcessConfig
from toolkit.data.examples import Example
from toolkit.errors import UserError
from toolkit.plan.memory_check import MemoryCheck, check_memory
from toolkit.plan.workload import measure_workload
from toolkit.train.precision import pick_device

# The weights of a card's model, up to what files of 8 bits have beside them.
_SAME = 0.03


def plan_memory(
    config: ProcessConfig,
    card: ModelCard,
    examples: Sequence[Example],
    output_folder: Path,
    *,
    vram_gb: float | None,
    num_weights: int | None,
    num_assistant_weights: int | None,
    lora_sides: tuple[int, ...] | None = None,
) -> MemoryCheck | str:
    """The plan of a run, or why there is none.

    Args:
        config: the run.
        card: of its model.
        examples: all of them.
        output_folder: of the job.
        vram_gb: plan for a card of this size instead of this machine.
        num_weights: of the transformer, counted in local files; None if they are on the hub.
        num_assistant_weights: the same for the assistant LoRA; 0: the job has none.
        lora_sides: see `PlanInputs`.

    Raises:
        UserError: it does not fit, with the cheapest changes that make it fit.
    """
    if card.size is None:
        return f"memory: {card.label} does not say how large it is, so nothing is predicted"
    if num_weights is not None and abs(num_weights / card.num_parameters - 1) > _SAME:
        return (
            f"memory: the weights here ({num_weights / 1e9:.2f} B) are not of the size of {card.label} "
            f"({card.num_parameters / 1e9:.2f} B), so nothing is predicted"
        )
    work = measure_workload(
        card,
        examples,
        captions(config, examples, output_folder),
        (*sample_items(config, first=True), *sample_items(config)),
        rules=reference_rules(config, card),
        keeps_vae=needs_vae(config),
    )
    try:
        device = str(pick_device(config.device))
    except UserError:  # the plan's first line says so
        device = None
    return check_memory(
        config,
        card.size,
        work,
        device=device,
        vram_gb=vram_gb,
        assistant_parameters=num_assistant_weights,
        lora_sides=lora_sides,
    )
