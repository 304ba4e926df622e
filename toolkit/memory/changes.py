"""Settings that make a run smaller, with what each costs, and the cheapest ones that make it fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from toolkit.memory.machine import Machine
from toolkit.memory.plan import Plan, make_plan, offloaded_bytes
from toolkit.memory.plan_inputs import PlanInputs
from toolkit.memory.qtypes import QTYPES, bits_of

# Formats to try, the best first: what each costs beside a model that is not quantized.
_QTYPE_COSTS = {"qfloat8": 1.0, "qint4": 4.0, "qint2": 20.0}
# So many bytes, twice over a bus of 25 GB a second, take 0.4 s: as much of a loss as hardly fewer bits.
_STREAMED_BYTES = 5e9
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SIZES_PX = (1024, 768, 512)


@dataclass(frozen=True)
class Change:
    """Something to set otherwise.

    Attributes:
        keys: what to write, by key of the job file.
        fields: the same as fields of PlanInputs.
        cost: what it takes in quality or speed; one is hardly noticed, ten is.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 0.0


@dataclass(frozen=True)
class Way:
    """Changes that together make a run fit, and the plan that it then has."""

    changes: tuple[Change, ...]
    plan: Plan

    @property
    def keys(self) -> dict[str, Any]:
        """All keys to write."""
        return {key: value for change in self.changes for key, value in change.keys.items()}


_NOTHING = Change()


def ways_to_fit(inputs: PlanInputs, machine: Machine, groups: Iterable[Iterable[Change]], *, most: int) -> list[Way]:
    """The cheapest sets of changes, at most one of each group, with which the run fits.

    A set that holds all changes of a cheaper one is no other way and is left out.
    """
    ways: list[Way] = []
    combinations = itertools.product(*([_NOTHING, *group] for group in groups))
    for combination in sorted(combinations, key=lambda changes: _cost(inputs, changes)):
        changes = tuple(change for change in combination if change is not _NOTHING)
        if any(set(way.keys) <= {key for change in changes for key in change.keys} for way in ways):
            continue
        plan = make_plan(_changed(inputs, changes))
        if machine.fits(plan):
            ways.append(Way(changes, plan))
            if len(ways) == most:
                break
    return ways


def frozen_weight_changes(inputs: PlanInputs) -> list[list[Change]]:
    """Changes of how the model is held: what is trained stays the same."""
    groups = [_te_qtypes(inputs)]
    if inputs.lora_rank is not None:
        groups += [_qtypes(inputs), _shares(inputs)]
    groups.append(_activations(inputs))
    if not inputs.low_vram and inputs.work.decode_px > inputs.size.vae.whole_low_vram_px:
        groups.append([Change({"model.low_vram": True}, {"low_vram": True}, 0.5)])
    return groups


def training_changes(inputs: PlanInputs) -> list[list[Change]]:
    """Changes of the training itself."""
    groups = []
    if not inputs.recomputes:
        groups.append([Change({"train.gradient_checkpointing": True}, {"recomputes": True}, 2)])
    if inputs.optimizer != "adamw8bit":
        groups.append([Change({"train.optimizer": "adamw8bit"}, {"optimizer": "adamw8bit"}, 1)])
    if inputs.batch_size > 1:
        keys = {"train.batch_size": 1, "train.gradient_accumulation": inputs.batch_size}
        groups.append([Change(keys, {"batch_size": 1, "accumulates": True}, 3)])
    groups.append(_works(inputs))
    return groups


def _cost(inputs: PlanInputs, changes: Iterable[Change]) -> float:
    """The costs of the changes, and that of the bytes which they let stream twice in every step."""
    streamed = offloaded_bytes(_changed(inputs, changes))
    return sum(change.cost for change in changes) + streamed / _STREAMED_BYTES


def _changed(inputs: PlanInputs, changes: Iterable[Change]) -> PlanInputs:
    fields = {name: value for change in changes for name, value in change.fields.items()}
    return replace(inputs, **fields) if fields else inputs


def _qtypes(inputs: PlanInputs) -> list[Change]:
    return [
        Change({"model.quantize": True, "model.qtype": name}, {"qtype": name}, cost)
        for name, cost in _smaller(inputs.qtype, inputs.width)
    ]


def _te_qtypes(inputs: PlanInputs) -> list[Change]:
    return [
        Change({"model.quantize_te": True, "model.qtype_te": name}, {"te_qtype": name}, cost / 2)
        for name, cost in _smaller(inputs.te_qtype, inputs.te_width)
    ]


def _smaller(qtype: str | None, width: int) -> Iterator[tuple[str, float]]:
    bits = bits_of(qtype, width)
    return ((name, cost) for name, cost in _QTYPE_COSTS.items() if name in QTYPES and bits_of(name, width) < bits)


def _shares(inputs: PlanInputs) -> list[Change]:
    """The text encoder then streams as a whole."""
    if inputs.device == "cpu":
        return []
    return [
        Change(
            {"model.layer_offloading": True, "model.layer_offloading_transformer_percent": share},
            {"offloaded": share, "te_offloaded": 1.0},
            1,
        )
        for share in _SHARES
        if share > inputs.offloaded
    ]


def _activations(inputs: PlanInputs) -> list[Change]:
    if not inputs.recomputes or inputs.offloads_activations or inputs.device == "cpu":
        return []
    return [Change({"model.activation_offloading": True}, {"offloads_activations": True}, 2)]


def _works(inputs: PlanInputs) -> list[Change]:
    """Smaller training images, or no samples, whose decoding can be the largest of all."""
    work = inputs.work
    changes = [
        Change(
            {"datasets.resolution": size},
            {"work": replace(work, train_px=size**2 + work.reference_px)},
            6 + 4 * index,
        )
        for index, size in enumerate(_SIZES_PX)
        if size**2 + work.reference_px < work.train_px
    ]
    if work.sample_px:
        undrawn = replace(work, sample_px=0, decode_px=0)
        changes.append(Change({"train.disable_sampling": True}, {"work": undrawn}, 5))
    return changes
