"""What the memory plan says of products in 8 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from toolkit.cards import find_cards
from toolkit.plan.changes import frozen_weight_changes
from toolkit.plan.memory_plan import make_plan
from toolkit.plan.plan_inputs import PlanInputs, Workload


def _inputs(**options: Any) -> PlanInputs:
    size = find_cards()["flux2"].size
    assert size is not None
    return PlanInputs(size, Workload(train_px=1024**2, encode_px=1024**2), "cuda", qtype="int8", **options)


def test_no_weight_is_dequantized() -> None:
    in_8_bits, before = _inputs(compute="int8"), _inputs()
    phases = [{phase.name: phase for phase in make_plan(inputs).phases} for inputs in (in_8_bits, before)]
    eight, bf16 = (found["train"].tensor_bytes for found in phases)
    largest = before.size.transformer.largest_linear
    assert bf16 - 2 * before.width * largest < eight < bf16


def test_a_smaller_format_is_offered_together_with_the_products_that_it_can_do() -> None:
    inputs = replace(_inputs(compute="int8"), te_qtype="int8")
    offered = [change for group in frozen_weight_changes(inputs) for change in group if "model.qtype" in change.keys]
    assert offered
    assert all(change.keys["model.compute"] == "bf16" for change in offered)
    offered = [change for group in frozen_weight_changes(_inputs()) for change in group if "model.qtype" in change.keys]
    assert not any("model.compute" in change.keys for change in offered)
