"""`model.memory: auto`: the plan chooses number formats and offloading so that the model fits the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.plan.changes import Change, frozen_weight_changes, ways_to_fit
from toolkit.plan.machine import Machine
from toolkit.plan.memory_plan import Plan, make_plan
from toolkit.plan.plan_inputs import PlanInputs
from toolkit.plan.stage_list import ENCODE_TEXT

_FILLED = 0.85  # the most of a card that may be filled to recompute less, or for samples
_MOST_SAMPLES = 4  # in one batch: a transformer is busy with four pictures


def choose_settings(model: ModelConfig, inputs: PlanInputs, machine: Machine) -> dict[str, Any]:
    """Keys to add to the `model` section so that the run fits; empty if it fits as it is.

    The same job on the same machine always gets the same settings. Keys that the job sets are never changed.

    Raises:
        UserError: no choice of the keys left to the plan makes the run fit.
    """
    groups = [[change for change in group if _may_set(model, change.keys)] for group in frozen_weight_changes(inputs)]
    ways = ways_to_fit(inputs, machine, groups, most=1)
    if not ways:
        given = ", ".join(sorted(model.model_fields_set & _chosen_keys(inputs))) or "none of them"
        raise UserError(
            f"model.memory: auto: no choice of number format and offloading makes the job fit {machine.name}. The job "
            f"sets {given}; leave more of these keys to the plan, or make the training smaller (train.batch_size, "
            "datasets.resolution)."
        )
    return {key.removeprefix("model."): value for key, value in ways[0].keys.items()}


def with_shares(model: ModelConfig, inputs: PlanInputs, machine: Machine) -> PlanInputs:
    """Fill in the shares of offloaded layers that the job leaves to the plan: each is the smallest that fits.

    With `low_vram`, the text encoder's share is always among them (see `ComponentLoader`). If nothing fits, the share
    is 1 and the plan will be refused.
    """
    if not model.layer_offloading:
        return _least(inputs, "te_offloaded", machine) if model.low_vram and inputs.device == "cuda" else inputs
    if model.layer_offloading_text_encoder_percent == "auto":
        inputs = _least(inputs, "te_offloaded", machine)
    if model.layer_offloading_transformer_percent == "auto":
        inputs = _least(inputs, "offloaded", machine)
    return inputs


def with_kept(inputs: PlanInputs, machine: Machine) -> PlanInputs:
    """Let blocks keep as much of what their own backward pass needs as is certain to fit, instead of recomputing it.

    A part of the memory stays free for what is not planned: what blocks keep is counted, but was not measured on cards.
    Where it is the machine's RAM, blocks keep at most the attention's output.
    """
    if not inputs.recomputes or "own" not in inputs.backward_passes or inputs.offloads_activations:
        return inputs
    most, step = 20 if inputs.device == "cuda" else 10, 10 if inputs.cards else 1  # all cards alike
    levels = (replace(inputs, keeps=tenths / 10) for tenths in range(most, 0, -step))
    return next((one for one in levels if machine.part(_FILLED).fits(make_plan(one))), inputs)


def with_preview(inputs: PlanInputs, machine: Machine) -> PlanInputs:
    """Keep the weights that samples are drawn on loaded if that is sure to fit, instead of loading them each time."""
    if inputs.preview == "never" or not inputs.work.sample_px:
        return inputs
    staying = replace(inputs, preview="run")
    return staying if machine.part(_FILLED).fits(make_plan(staying)) else inputs


def with_sample_batch(inputs: PlanInputs, machine: Machine, *, most: int) -> PlanInputs:
    """Draw as many samples in one batch as are certain to fit. On a CPU, a batch is no faster than one by one.

    Args:
        inputs: the plan's inputs so far.
        machine: the machine of the plan.
        most: the number of samples that are alike.
    """
    if inputs.device != "cuda" or not inputs.work.sample_px:
        return inputs
    sizes = (replace(inputs, sample_batch=size) for size in range(min(most, _MOST_SAMPLES), 1, -1))
    return next((one for one in sizes if machine.part(_FILLED).fits(make_plan(one))), inputs)


def _least(inputs: PlanInputs, name: str, machine: Machine) -> PlanInputs:
    """The smallest share that fits. Only the phases in which its component is loaded are considered."""
    candidates = [_with_share(inputs, name, tenth / 10) for tenth in range(11)]
    return next((one for one in candidates if machine.fits(_where_loaded(make_plan(one), name))), candidates[-1])


def _with_share(inputs: PlanInputs, name: str, share: float) -> PlanInputs:
    return replace(inputs, offloaded=share) if name == "offloaded" else replace(inputs, te_offloaded=share)


def _where_loaded(plan: Plan, name: str) -> Plan:
    phases = [phase for phase in plan.phases if (phase.stage == ENCODE_TEXT.name) == (name == "te_offloaded")]
    return replace(plan, phases=tuple(phases))


def _may_set(model: ModelConfig, keys: Mapping[str, Any]) -> bool:
    """Whether a change keeps the value of every key that the job sets."""
    names = {key.removeprefix("model."): value for key, value in keys.items()}
    return all(getattr(model, name) == value for name, value in names.items() if name in model.model_fields_set)


def _chosen_keys(inputs: PlanInputs) -> set[str]:
    changes: list[Change] = [change for group in frozen_weight_changes(inputs) for change in group]
    return {key.removeprefix("model.") for change in changes for key in change.keys}
