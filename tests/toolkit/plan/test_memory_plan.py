"""The memory plan of a run, and what is done where it does not fit."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_config
from toolkit.cards import find_cards
from toolkit.errors import UserError
from toolkit.plan.auto import choose_settings, with_shares
from toolkit.plan.changes import frozen_weight_changes, training_changes, ways_to_fit
from toolkit.plan.machine import Machine, named_card, this_machine
from toolkit.plan.memory_plan import Plan, make_plan
from toolkit.plan.phases.stored import offloaded_bytes, transformer_bytes
from toolkit.plan.plan_inputs import PlanInputs, Workload
from toolkit.plan.plan_report import describe_plan, describe_refusal, find_ways, warn_of_others
from toolkit.units import GB

PX = 1024**2


def _refusal(plan: Plan, machine: Machine) -> str:
    assert not machine.fits(plan)
    return describe_refusal(plan, machine, find_ways(plan, machine))


def inputs(arch: str = "flux2_klein_4b", **options: Any) -> PlanInputs:
    size = find_cards()[arch].size
    assert size is not None
    work = Workload(train_px=PX, encode_px=PX, sample_px=PX, decode_px=PX)
    return replace(PlanInputs(size, work, "cuda"), **options)


@pytest.mark.parametrize(
    "smaller",
    [
        {"qtype": "qfloat8"},
        {"qtype": "qint4"},
        {"optimizer": "adamw8bit"},
        {"offloaded": 0.5},
        {"offloaded": 1.0, "qtype": "qfloat8"},
        {"offloads_activations": True},
        {"lora_rank": 4},
    ],
    ids=str,
)
def test_what_saves_memory_lowers_the_peak_on_the_card(smaller: dict[str, Any]) -> None:
    whole = inputs("flux2")
    assert make_plan(replace(whole, **smaller)).peak_gpu_bytes < make_plan(whole).peak_gpu_bytes


@pytest.mark.parametrize("average", [{"optimizer": "schedulefree_adamw"}, {"keeps_average": True}], ids=str)
def test_samples_and_saves_of_an_average_set_the_trained_weights_aside(average: dict[str, Any]) -> None:
    plain, averaged = inputs(), inputs(**average)
    for phase, without in zip(make_plan(averaged).phases, make_plan(plain).phases, strict=True):
        aside = 4 * plain.num_trained if phase.name in ("sample", "save") else 0
        assert phase.device.get("raw weights", 0) == aside
        assert "raw weights" not in without.device


def test_recomputing_and_smaller_work_lower_the_peak_on_the_card() -> None:
    whole = inputs("flux2", recomputes=False, batch_size=2, lora_rank=64)
    for smaller in ({"recomputes": True}, {"batch_size": 1}, {"work": replace(whole.work, train_px=PX // 4)}):
        assert make_plan(replace(whole, **smaller)).peak_gpu_bytes < make_plan(whole).peak_gpu_bytes


def test_weights_are_on_the_card_or_in_ram() -> None:
    whole, half = inputs("flux2"), inputs("flux2", offloaded=0.5)
    (load,) = (phase for phase in make_plan(half).phases if phase.name == "load")
    assert load.device["weights"] + load.host["offloaded weights"] == transformer_bytes(whole)
    assert load.host["offloaded weights"] == offloaded_bytes(half)


def test_text_encoders_are_loaded_together_and_the_small_one_stays_whole_on_the_card() -> None:
    clip, t5 = inputs("flux").size.text_encoders
    assert clip.is_held_whole and not t5.is_held_whole
    whole, quantized, streamed = (
        make_plan(inputs("flux", **options)).phases[0]
        for options in ({}, {"te_qtype": "qfloat8"}, {"te_offloaded": 1.0})
    )
    clip_bytes = 2 * (clip.num_layers * clip.layer_parameters + clip.embedding_parameters)
    t5_bytes, table = 2 * t5.num_layers * t5.layer_parameters, 2 * t5.embedding_parameters
    assert whole.device["weights"] == clip_bytes + table + t5_bytes
    assert quantized.device["weights"] == pytest.approx(clip_bytes + table + t5_bytes / 2, rel=0.01)
    assert streamed.device["weights"] == clip_bytes + table
    assert streamed.host["offloaded weights"] == t5_bytes
    assert streamed.device["ring"] == pytest.approx(2 * t5_bytes / t5.num_layers)


def test_a_cpu_has_everything_in_ram() -> None:
    plan = make_plan(inputs("flux2_tiny", device="cpu", width=4))
    assert plan.peak_gpu_bytes == 0
    assert all(gpu == 0 for _, gpu in plan.stage_peaks().values())
    assert plan.peak_ram_bytes > max(phase.tensor_bytes for phase in plan.phases)


def test_a_run_that_cannot_fit_is_refused_with_changes_that_make_it_fit() -> None:
    plan = make_plan(inputs("flux2_klein_9b", recomputes=False))
    refusal = _refusal(plan, named_card(24))
    assert re.search(r"needs \d+\.\d GB on the card", refusal)
    assert "train.gradient_checkpointing: true" in refusal
    assert len(refusal.splitlines()) in (2 + 2, 2 + 3)


def test_every_way_offered_fits_and_holds_no_cheaper_one() -> None:
    tight, card = inputs("flux2_klein_9b", recomputes=False, batch_size=4), named_card(16)
    ways = ways_to_fit(tight, card, [*frozen_weight_changes(tight), *training_changes(tight)], most=3)
    assert ways
    assert all(card.fits(way.plan) for way in ways)
    assert not any(set(one.keys) <= set(other.keys) for one, other in itertools.combinations(ways, 2))


def test_a_run_that_fits_needs_no_change() -> None:
    (way,) = ways_to_fit(inputs(), named_card(80), frozen_weight_changes(inputs()), most=3)
    assert way.keys == {}


def test_too_little_ram_is_refused_too() -> None:
    plan = make_plan(inputs("flux2", device="cpu"))
    machine = Machine("this machine", ram_bytes=24 * GB, free_ram_bytes=24 * GB)
    assert "--check --vram" in _refusal(plan, machine)


def test_memory_that_others_hold_is_warned_of() -> None:
    plan = make_plan(inputs())
    busy = Machine("a busy card", gpu_bytes=80 * GB, free_gpu_bytes=1 * GB)
    assert any("other programs" in line for line in warn_of_others(plan, busy))
    assert warn_of_others(plan, named_card(80)) == []


def test_a_full_fine_tune_that_nothing_makes_fit_is_advised_to_train_a_lora() -> None:
    plan = make_plan(inputs("flux2", lora_rank=None))
    assert "No change of settings makes it fit.\nA LoRA" in _refusal(plan, named_card(24))


def test_an_assistant_lora_is_on_the_card_all_through_training() -> None:
    plain, assisted = (make_plan(inputs("flux", assistant_parameters=number)) for number in (0, 45_000_000))
    for one, other in zip(plain.phases, assisted.phases, strict=True):
        is_held = one.name in {"load", "train", "sample", "save"}
        assert assisted.gpu_bytes(other) - plain.gpu_bytes(one) == (2 * 45_000_000 if is_held else 0)


def test_only_the_text_encoders_own_stage_decides_how_much_of_it_streams() -> None:
    tight = inputs("flux2", qtype="qfloat8", te_qtype="qint4")
    auto = {"layer_offloading_transformer_percent": "auto", "layer_offloading_text_encoder_percent": "auto"}
    settled = with_shares(tiny_config(layer_offloading=True, **auto), tight, named_card(24))
    assert settled.offloaded > 0
    assert settled.te_offloaded == 0
    assert named_card(24).fits(make_plan(settled))


def test_with_low_vram_a_text_encoder_that_does_not_fit_streams() -> None:
    tight, card = inputs("flux2", qtype="qint4", te_qtype=None, low_vram=True), named_card(32)
    assert not card.fits(make_plan(tight))
    assert card.fits(make_plan(with_shares(tiny_config(low_vram=True), tight, card)))


def test_activations_that_wait_in_ram_take_powers_of_two() -> None:
    (train,) = (phase for phase in make_plan(inputs(offloads_activations=True)).phases if phase.name == "train")
    each = train.host["offloaded activations"] / 25
    assert each == 2**25 >= 4608 * 3072 * 2


def test_the_table_names_every_phase_and_the_card() -> None:
    plan = make_plan(inputs())
    lines = describe_plan(plan, named_card(24))
    assert [line.split("  ")[0] for line in lines[1:-1]] == [phase.name for phase in plan.phases]
    assert lines[-1].startswith("a card of 24 GB")


def test_this_machine_has_ram() -> None:
    machine = this_machine("cpu")
    assert machine.gpu_bytes is None
    assert machine.ram_bytes is not None and machine.free_ram_bytes is not None
    assert 0 < machine.free_ram_bytes <= machine.ram_bytes


def test_auto_chooses_what_fits_and_always_the_same() -> None:
    model = tiny_config(memory="auto")
    wanted = inputs("flux2_klein_9b")
    assert choose_settings(model, wanted, named_card(80)) == {}
    chosen = choose_settings(model, wanted, named_card(16))
    assert chosen == choose_settings(model, wanted, named_card(16))
    assert model.with_settings(chosen).quantize


def test_auto_changes_no_key_that_the_job_gives(tmp_path: Path) -> None:
    wanted = inputs("flux2_klein_9b", qtype="qint8")
    given = tiny_config(memory="auto", quantize=True, qtype="qint8")
    assert "qtype" not in choose_settings(given, wanted, named_card(16))
    with pytest.raises(UserError, match=r"The job sets .*qtype"):
        choose_settings(given, wanted, named_card(2))
