"""Checks whether a training run fits into memory and on the disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from jobs.process.disk_check import check_disk
from jobs.process.model_files import ModelFacts
from jobs.process.training_checked import TrainingChecked
from toolkit.compute.compute_check import compute_lines
from toolkit.errors import Mistakes, UserError
from toolkit.plan.adapters import count_in_blocks, count_weights
from toolkit.plan.cards.split_check import cards_of_split
from toolkit.plan.memory_check import MemoryCheck, check_memory
from toolkit.plan.workload import workload_of

C = TypeVar("C", bound=TrainingChecked)

# Relative difference from a card's number of weights that still counts as equal: 8-bit files also contain scales.
_SAME = 0.03


def check_room(checked: TrainingChecked, mistakes: Mistakes) -> TrainingChecked:
    """Check memory and disk. The settings that `model.memory: auto` chooses apply to the run from here on.

    After other mistakes, what could not be read is not counted, so that a lack of room is one in any case.
    """
    card, model = checked.card, checked.model
    lines = list(model.lines)
    without = None if checked.needs.trained else "warning: memory was not checked, because no image can be read"
    checked = take_memory(checked, lines, mistakes, without=without)
    start = checked.start
    with mistakes.gathered():
        disk = check_disk(
            start.training,
            card,
            checked.needs,
            start.output_folder,
            num_weights=model.num_weights,
            plan=checked.memory.plan if checked.memory else None,
            lora_sides=model.lora_sides,
            fixed_weights=model.fixed_weights,
            encoders=checked.encoders,
            is_here=start.vram_gb is None,  # a plan for another card is one for another machine
        )
        checked = replace(checked, disk=disk)
        lines[len(model.lines) : len(model.lines)] = disk.lines
    return checked.adding(*lines)


def take_memory(checked: C, lines: list[str], mistakes: Mistakes, *, without: str | None) -> C:
    """Plan the memory, and take over the settings that `model.memory: auto` chooses; a lack of it is a mistake.

    Args:
        checked: what is known so far.
        lines: gets the plan, and what the model computes in, as lines for the user.
        mistakes: gets a lack of memory.
        without: why there is no plan; None to make one.
    """
    with mistakes.gathered():
        memory = _plan_memory(checked, checked.model) if without is None else without
        if isinstance(memory, MemoryCheck):
            checked = replace(checked, memory=memory, start=checked.start.with_model_settings(memory.settings))
            if memory.refusal:
                raise UserError(memory.refusal)
            lines += memory.lines
        else:
            lines.append(memory)
    lines += compute_lines(checked.start.training, is_here=checked.start.vram_gb is None)
    return checked


def _plan_memory(checked: TrainingChecked, model: ModelFacts) -> MemoryCheck | str:
    """The memory plan, or a line that says why there is none.

    Raises:
        UserError: see `check_memory`.
    """
    start, card = checked.start, checked.card
    if card.size is None:
        return f"memory: the size of {card.label} is unknown, so memory cannot be predicted"
    if model.num_weights is not None and abs(model.num_weights / card.num_parameters - 1) > _SAME:
        return (
            f"memory: the number of weights ({model.num_weights / 1e9:.2f} B) differs from that of {card.label} "
            f"({card.num_parameters / 1e9:.2f} B), so memory cannot be predicted"
        )
    try:
        device = start.find_device()
    except UserError:  # the plan's first line says so
        device = None
    return check_memory(
        start.training,
        card.size,
        workload_of(checked.needs, card, checked.encoders, embeds_text=start.training.embeds_text),
        device=device,
        vram_gb=start.vram_gb,
        assistant_parameters=model.num_assistant_weights,
        adapter_parameters=count_weights(start.training.adapter, card, checked.encoders),
        adapter_in_blocks=count_in_blocks(start.training.adapter, card, checked.encoders),
        num_cards=cards_of_split(start.training, is_here=start.vram_gb is None),
        lora_sides=model.lora_sides,
        fixed_weights=model.fixed_weights,
        ranks=start.ranks.world,
        num_ranks=start.ranks.local_world,
    )
