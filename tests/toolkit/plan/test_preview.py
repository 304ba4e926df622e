"""Weights that samples are drawn on beside those that are trained: in the plan, and when they stay loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from toolkit.cards import find_cards
from toolkit.plan.auto import with_preview, with_sample_batch
from toolkit.plan.changes import training_changes
from toolkit.plan.machine import named_card
from toolkit.plan.memory_plan import Plan, make_plan
from toolkit.plan.phases.phase import Phase
from toolkit.plan.phases.stored import transformer_bytes
from toolkit.plan.plan_inputs import PlanInputs, Workload
from toolkit.plan.step_memory import forward_bytes

PX = 1024**2


def inputs(**options: Any) -> PlanInputs:
    size = find_cards()["flux2_klein_4b"].size
    assert size is not None
    work = Workload(train_px=PX, encode_px=PX, sample_px=PX, decode_px=PX, keeps_vae=True)
    return replace(PlanInputs(size, work, "cuda"), **options)


def _phase(plan: Plan, name: str) -> Phase:
    return next(phase for phase in plan.phases if phase.name == name)


def test_a_round_takes_the_other_weights_and_a_copy_of_the_network() -> None:
    alone, beside = (make_plan(inputs(preview=preview)) for preview in ("never", "round"))
    more = _phase(beside, "sample").tensor_bytes - _phase(alone, "sample").tensor_bytes
    assert more == transformer_bytes(inputs()) + inputs().trained_width * inputs().num_trained
    assert all(_phase(alone, name) == _phase(beside, name) for name in ("load", "train", "save"))


def test_weights_that_stay_are_there_in_every_step() -> None:
    staying, rounds = (make_plan(inputs(preview=preview)) for preview in ("run", "round"))
    assert _phase(staying, "train").tensor_bytes > _phase(rounds, "train").tensor_bytes + transformer_bytes(inputs())
    assert _phase(staying, "sample") == _phase(rounds, "sample")


def test_offloaded_weights_are_in_ram_twice() -> None:
    alone, beside = (make_plan(inputs(preview=preview, offloaded=0.5)) for preview in ("never", "round"))
    host = "offloaded weights"
    assert _phase(beside, "sample").host[host] == 2 * _phase(alone, "sample").host[host] > 0
    assert _phase(beside, "train").host == _phase(alone, "train").host


def test_the_weights_stay_where_there_is_room() -> None:
    found = [with_preview(inputs(preview="round"), named_card(size)).preview for size in (16, 80)]
    assert found == ["round", "run"]
    assert with_preview(inputs(), named_card(80)).preview == "never"


def test_a_run_that_does_not_fit_may_do_without() -> None:
    keys = [change.keys for group in training_changes(inputs(preview="round")) for change in group]
    assert {"sample.model": "null"} in keys
    assert not any("sample.model" in change.keys for group in training_changes(inputs()) for change in group)


def test_samples_of_a_batch_take_their_memory_together() -> None:
    alone, together = (_phase(make_plan(inputs(sample_batch=size)), "sample") for size in (1, 4))
    assert together.device["working set"] == 4 * forward_bytes(inputs(), PX) > alone.device["working set"]
    card = named_card(24)
    assert with_sample_batch(inputs(), card, most=9).sample_batch == 4
    assert with_sample_batch(inputs(), card, most=2).sample_batch == 2
    assert with_sample_batch(inputs(), named_card(12), most=9).sample_batch == 1
    assert with_sample_batch(inputs(device="cpu"), card, most=9).sample_batch == 1
