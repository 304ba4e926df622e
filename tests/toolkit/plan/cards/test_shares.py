"""The memory plan of a model that is split over several cards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from toolkit.cards import find_cards
from toolkit.plan.cards.shares import shares_of
from toolkit.plan.machine import Machine, Room, named_card
from toolkit.plan.memory_plan import Plan, make_plan
from toolkit.plan.plan_inputs import PlanInputs, Workload
from toolkit.plan.plan_report import describe_plan, describe_refusal, describe_split, find_ways
from toolkit.units import GB

PX = 1024**2
SPLITTABLE = sorted(arch for arch, card in find_cards().items() if card.size is not None)


def inputs(arch: str = "flux2", *, cards: tuple[int, ...] = (24 * GB, 24 * GB), **options: Any) -> PlanInputs:
    size = find_cards()[arch].size
    assert size is not None
    work = Workload(train_px=PX, encode_px=PX, sample_px=PX, decode_px=PX)
    given = {"qtype": "qfloat8", "te_qtype": "qfloat8", "cards": cards, **options}
    return replace(PlanInputs(size, work, "cuda"), **given)


def _trained(plan: Plan) -> tuple[int, ...]:
    """Memory of each card while training."""
    return next(plan.card_bytes(phase) for phase in plan.phases if phase.name == "train")


def _weights(plan: Plan, name: str) -> int:
    (phase,) = (phase for phase in plan.phases if phase.name == "train")
    return sum(parts.get(name, 0) for parts in (phase.device, *phase.others))


@pytest.mark.parametrize("arch", SPLITTABLE)
@pytest.mark.parametrize(
    "options", [{}, {"lora_rank": None, "qtype": None}, {"lora_sides": None, "blocks_only": False}]
)
def test_the_cards_together_hold_the_whole_model_and_all_that_is_trained(arch: str, options: dict[str, Any]) -> None:
    split, whole = make_plan(inputs(arch, **options)), make_plan(inputs(arch, cards=(), **options))
    assert split.split is not None and sum(split.split) == sum(
        block.count for block in split.inputs.size.transformer.blocks
    )
    for name in ("weights", "LoRA", "optimizer", "VAE"):
        assert _weights(split, name) == pytest.approx(_weights(whole, name), rel=1e-3), name


@pytest.mark.parametrize("arch", SPLITTABLE)
def test_two_equal_cards_take_about_half_each(arch: str) -> None:
    plan, whole = make_plan(inputs(arch)), make_plan(inputs(arch, cards=()))
    (first, second), largest = _trained(plan), max(block.parameters for block in plan.inputs.size.transformer.blocks)
    assert plan.split is not None
    assert abs(first - second) < 2 * largest or plan.split[0] < 2, "what is outside the blocks may outweigh them"
    assert max(first, second) < _trained(whole)[0]


def test_a_larger_card_gets_more_blocks() -> None:
    even = make_plan(inputs()).split
    larger_first = make_plan(inputs(cards=(48 * GB, 24 * GB))).split
    assert even is not None and larger_first is not None
    assert larger_first[0] > even[0] > 0


def test_four_cards_take_less_than_two_each() -> None:
    two, four = (make_plan(inputs(cards=(24 * GB,) * count)) for count in (2, 4))
    assert len(four.card_peaks) == 4 and max(four.card_peaks[1:]) < min(two.card_peaks)


def test_adapters_in_blocks_are_where_their_blocks_are_and_others_on_the_first_card() -> None:
    in_blocks = (8_000_000, 48_000_000)
    given = inputs(adapter_parameters=60_000_000, adapter_in_blocks=in_blocks)
    shares = shares_of(given, (8, 48))
    assert [share.adapter_parameters for share in shares] == [12_000_000, 48_000_000]


def test_weights_of_a_network_of_fixed_size_are_where_their_layers_are() -> None:
    shares = shares_of(inputs(fixed_weights=(8_000, 48_000, 500)), (4, 52))
    assert [share.fixed_weights for share in shares] == [(4_000, 0, 500), (4_000, 48_000, 0)]


def test_the_table_has_a_column_for_each_card_and_says_where_the_blocks_are() -> None:
    plan, machine = make_plan(inputs()), named_card(24, count=2)
    heading, *_, last = describe_plan(plan, machine)
    assert heading.split()[2:6] == ["GPU", "0", "GPU", "1"]
    assert last.startswith("2 cards of 24 GB") and last.split()[-3:] == ["23.4", "23.4", "?"]
    (line,) = describe_split(plan)
    assert plan.split is not None
    assert line.startswith(f"split over GPUs: 56 blocks, {plan.split[0]} on GPU 0, {plan.split[1]} on GPU 1")
    assert describe_split(make_plan(inputs(cards=()))) == []


def test_a_run_fits_only_if_it_fits_each_card() -> None:
    plan = make_plan(inputs())
    assert named_card(24, count=2).fits(plan)
    cramped = Machine("cards", 24 * GB, 24 * GB, others=(Room("a small card", 12 * GB, 12 * GB),))
    assert not cramped.fits(plan)
    ways = find_ways(plan, cramped)
    said = describe_refusal(plan, cramped, ways)
    assert "GB on GPU 1 (train), and it has 12.0 GB" in said
    assert ways and "GB on the cards" in said and "transformer_percent: 0." not in said


def test_nothing_of_a_split_model_is_streamed_but_the_text_encoder() -> None:
    plan = make_plan(inputs(te_qtype=None))
    changes = [key for way in find_ways(plan, named_card(24, count=2)) for key in way.keys.items()]
    assert ("model.layer_offloading_transformer_percent", 0) in changes
    assert all(value == 0 for key, value in changes if key == "model.layer_offloading_transformer_percent")
