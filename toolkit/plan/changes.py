"""Changes of settings that make a run smaller, the cost of each, and the cheapest ones that make the run fit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from toolkit.memory.tiling import WHOLE_LOW_VRAM_PX
from toolkit.optimizers.choices import OPTIMIZERS, optimizer_row
from toolkit.plan.machine import Machine
from toolkit.plan.memory_plan import Plan, make_plan
from toolkit.plan.phases.stored import offloaded_bytes
from toolkit.plan.plan_inputs import PlanInputs
from toolkit.quantize.qtypes import QTYPES, bits_of

# Streaming this many bytes twice over a bus of 25 GB/s takes 0.4 s, which counts as a cost of 1.
_STREAMED_BYTES = 5e9
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SIZES_PX = (1536, 1024, 768, 512)
_RANKS = (256, 128, 64, 32, 16)
# Do not suggest what costs this much more than the cheapest way.
_TOO_EXPENSIVE = 12.0


@dataclass(frozen=True)
class Change:
    """A change of settings.

    Attributes:
        keys: the change as job file keys and their new values.
        fields: the change as fields of PlanInputs.
        work: the change as fields of Workload.
        cost: loss of quality or speed; 1 is hardly noticeable, 10 clearly is.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    work: Mapping[str, int] = field(default_factory=dict)
    cost: float = 0.0


@dataclass(frozen=True)
class Way:
    """Changes that together make a run fit, and the resulting plan."""

    changes: tuple[Change, ...]
    plan: Plan

    @property
    def keys(self) -> dict[str, Any]:
        """The job file keys to set, with their new values."""
        return {key: value for change in self.changes for key, value in change.keys.items()}


_NOTHING = Change()


def ways_to_fit(inputs: PlanInputs, machine: Machine, groups: Iterable[Iterable[Change]], *, most: int) -> list[Way]:
    """The cheapest sets of changes that make the run fit, with at most one change from each group.

    A set that includes all changes of a cheaper one is left out, and so is one that costs far more than the cheapest.
    """
    limit = math.inf
    ways: list[Way] = []
    combinations = itertools.product(*([_NOTHING, *group] for group in groups))
    for combination in sorted(combinations, key=lambda changes: _cost(inputs, changes)):
        changes = tuple(change for change in combination if change is not _NOTHING)
        if _cost(inputs, changes) > limit:
            break
        if any(set(way.keys) <= {key for change in changes for key in change.keys} for way in ways):
            continue
        changed = _changed(inputs, changes)
        if changed.is_fused and changed.accumulates:  # a gradient that is freed at once cannot be accumulated
            continue
        if changed.is_sharded and changed.offloaded:  # every block is moved by one of the two
            continue
        plan = make_plan(changed)
        if machine.fits(plan):
            ways.append(Way(changes, plan))
            limit = min(limit, _cost(inputs, changes) + _TOO_EXPENSIVE)
            if len(ways) == most:
                break
    return ways


def frozen_weight_changes(inputs: PlanInputs) -> list[list[Change]]:
    """Changes of how the frozen weights are stored; the training stays the same."""
    groups = []
    if inputs.lora_rank is not None:  # before the text encoder's changes, which override its format
        groups += [_qtypes(inputs), _shares(inputs)]
    groups += [_te_qtypes(inputs), _activations(inputs)]
    if not inputs.low_vram and inputs.work.decode_px > WHOLE_LOW_VRAM_PX:
        groups.append([Change({"model.low_vram": True}, {"low_vram": True}, cost=0.5)])
    return groups


def training_changes(inputs: PlanInputs) -> list[list[Change]]:
    """Changes that affect the training itself; none if nothing is trained."""
    if not inputs.trains:
        return []
    groups = []
    if inputs.ranks > 1 and not inputs.is_sharded:
        groups.append([Change({"train.sharding": "full"}, {"is_sharded": True}, cost=2)])
    if not inputs.recomputes:
        groups.append([Change({"train.gradient_checkpointing": True}, {"recomputes": True}, cost=2)])
    row = optimizer_row(inputs.optimizer)
    if row.state_bytes > OPTIMIZERS["adamw8bit"].state_bytes and not row.finds_its_rate:
        groups.append([Change({"train.optimizer": "adamw8bit"}, {"optimizer": "adamw8bit"}, cost=1)])
    if inputs.keeps_average:
        groups.append([Change({"train.ema_config.use_ema": False}, {"keeps_average": False}, cost=4)])
    if inputs.snapshots:
        groups.append([Change({"train.ema_config.power_ema": False}, {"snapshots": 0}, cost=3)])
    if inputs.lora_rank is None:
        groups += _full_finetune(inputs)
    elif any(inputs.sides):
        smaller = [rank for rank in _RANKS if rank < inputs.lora_rank]
        groups.append(
            [
                Change({"network.linear": rank}, {"lora_rank": rank}, cost=4 + index)
                for index, rank in enumerate(smaller)
            ]
        )
    return [*groups, _batches(inputs), _sizes(inputs), _samples(inputs), _previews(inputs), _sample_batches(inputs)]


def _cost(inputs: PlanInputs, changes: Iterable[Change]) -> float:
    """The cost of the changes, plus that of the bytes that then stream twice in every step."""
    streamed = offloaded_bytes(_changed(inputs, changes))
    return sum(change.cost for change in changes) + streamed / _STREAMED_BYTES


def _changed(inputs: PlanInputs, changes: Iterable[Change]) -> PlanInputs:
    fields: dict[str, Any] = {}
    work: dict[str, Any] = {}
    for change in changes:
        fields |= change.fields
        work |= change.work
    return replace(inputs, **fields, work=replace(inputs.work, **work)) if fields or work else inputs


def _qtypes(inputs: PlanInputs) -> list[Change]:
    """`quantize` also applies to the text encoder unless the job says otherwise."""
    followed = {"te_qtype": "qfloat8"} if inputs.te_follows and inputs.te_qtype is None else {}
    # What is multiplied as it is stored cannot be stored in another format.
    as_before = {} if inputs.compute == "bf16" else {"model.compute": "bf16"}
    fields = {"compute": "bf16", **followed}
    return [
        Change({"model.quantize": True, "model.qtype": name, **as_before}, {"qtype": name, **fields}, cost=cost)
        for name, cost in _smaller(inputs.qtype, inputs.width)
    ]


def _te_qtypes(inputs: PlanInputs) -> list[Change]:
    return [
        Change({"model.quantize_te": True, "model.qtype_te": name}, {"te_qtype": name}, cost=cost / 2)
        for name, cost in _smaller(inputs.te_qtype, inputs.te_width)
    ]


def _smaller(qtype: str | None, width: int) -> Iterator[tuple[str, float]]:
    bits = bits_of(qtype, width)
    return ((name, row.cost) for name, row in QTYPES.items() if row.cost is not None and row.bits_per_weight < bits)


def _shares(inputs: PlanInputs) -> list[Change]:
    """Shares to offload. The text encoder is then offloaded too, completely unless the job says otherwise."""
    if inputs.device == "cpu" or inputs.is_sharded:
        return []
    if inputs.cards:  # the blocks of a model that is split stay where they are
        keys = {"model.layer_offloading": True, "model.layer_offloading_transformer_percent": 0}
        return [] if inputs.te_offloaded else [Change(keys, {"te_offloaded": inputs.te_share}, cost=1)]
    return [
        Change(
            {"model.layer_offloading": True, "model.layer_offloading_transformer_percent": share},
            {"offloaded": share, "te_offloaded": inputs.te_share},
            cost=1,
        )
        for share in _SHARES
        if share > inputs.offloaded
    ]


def _activations(inputs: PlanInputs) -> list[Change]:
    if not inputs.recomputes or inputs.offloads_activations or inputs.device == "cpu":
        return []
    return [Change({"model.activation_offloading": True}, {"offloads_activations": True}, cost=2)]


def _full_finetune(inputs: PlanInputs) -> list[list[Change]]:
    """Narrower trained weights, the exact format first; and freeing each gradient after its update."""
    current_width = inputs.trained_width + inputs.spare_width
    ways = (("bf16_split", 2, 1), ("bf16_stochastic", 0, 3)) if inputs.is_bf16 else ()
    narrower = [
        Change({"train.full_finetune_weights": name}, {"trained_width": 2, "spare_width": spare}, cost=cost)
        for name, spare, cost in ways
        if 2 + spare < current_width or inputs.trained_width == 4
    ]
    if inputs.is_fused:
        return [narrower]
    keys = {"train.fused_backward_pass": True, "train.max_grad_norm": 0}
    return [narrower, [Change(keys, {"is_fused": True}, cost=2)]]


def _batches(inputs: PlanInputs) -> list[Change]:
    """Smaller batches, with gradients accumulated over more of them where possible."""
    changes = []
    for size, cost in {inputs.batch_size // 2: 2, 1: 3}.items():
        if 0 < size < inputs.batch_size and inputs.batch_size % size == 0:
            number = inputs.accumulation * inputs.batch_size // size
            keys, fields = {"train.batch_size": size}, {"batch_size": size}
            if inputs.is_fused:
                changes.append(Change(keys, fields, cost=cost + 2))
            else:
                more = {"train.gradient_accumulation": number}
                changes.append(Change(keys | more, fields | {"accumulation": number}, cost=cost))
    return changes


def _sizes(inputs: PlanInputs) -> list[Change]:
    """Smaller training images."""
    references = inputs.work.reference_px
    smaller = [size for size in _SIZES_PX if size**2 + references < inputs.work.train_px]
    return [
        Change({"datasets.resolution": size}, work={"train_px": size**2 + references}, cost=6 + 4 * index)
        for index, size in enumerate(smaller)
    ]


def _previews(inputs: PlanInputs) -> list[Change]:
    """Draw samples on the weights being trained, which are loaded anyway."""
    if inputs.preview == "never" or not inputs.work.sample_px:
        return []
    return [Change({"sample.model": "null"}, {"preview": "never"}, cost=3)]


def _sample_batches(inputs: PlanInputs) -> list[Change]:
    """Samples one by one."""
    if inputs.sample_batch == 1 or not inputs.work.sample_px:
        return []
    return [Change({"sample.batch_size": 1}, {"sample_batch": 1}, cost=1)]


def _samples(inputs: PlanInputs) -> list[Change]:
    """No samples: decoding them can take the most memory of all."""
    if not inputs.work.sample_px:
        return []
    return [Change({"train.disable_sampling": True}, work={"sample_px": 0, "decode_px": 0, "shown_px": 0}, cost=5)]
