from __future__ import annotations

import pytest

from jobs.cloud.gpus import GPUS, Gpu
from scripts import write_hardware_docs
from scripts.write_hardware_docs import H100, MODELS, _way, operations, seconds_per_step
from toolkit.cards import find_cards


def test_the_tables_are_current() -> None:
    assert write_hardware_docs.main(["--check"]) == 0, "run python scripts/write_hardware_docs.py"


def test_every_model_is_known() -> None:
    assert {model.arch for model in MODELS} <= set(find_cards())


@pytest.mark.parametrize(("model", "expected"), list(zip(MODELS, (114, 243, 891), strict=True)))
def test_the_operations_of_a_step_are_those_counted_by_hand(model: write_hardware_docs.Model, expected: float) -> None:
    assert operations(model) / 1e12 == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.arch)
def test_what_was_measured_is_predicted_for_a_card_like_it(model: write_hardware_docs.Model) -> None:
    way, twin = _way(model, 80), Gpu("twin", 80, H100.bf16_tflops, H100.bandwidth_gb_s)
    assert way is not None
    assert seconds_per_step(model, twin, way) == pytest.approx(seconds_per_step(model, H100, way))


def test_no_card_is_listed_twice() -> None:
    assert len({gpu.label for gpu in GPUS}) == len(GPUS)
    rented = [gpu.modal for gpu in GPUS if gpu.modal]
    assert len(set(rented)) == len(rented)
