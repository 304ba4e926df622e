"""How many blocks keep what their own backward pass needs, instead of computing it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import write_job
from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.plan.auto import with_kept
from toolkit.plan.machine import Machine, named_card
from toolkit.plan.memory_plan import make_plan
from toolkit.plan.of_job.inputs import inputs_of
from toolkit.plan.plan_inputs import PlanInputs, Workload

PX = 1024**2


def inputs(arch: str = "flux2_klein_4b", **options: Any) -> PlanInputs:
    size = find_cards()[arch].size
    assert size is not None
    work = Workload(train_px=PX, encode_px=PX)
    return replace(PlanInputs(size, work, "cuda", backwards=("own",)), **options)


def test_the_larger_the_card_the_less_is_recomputed() -> None:
    found = [with_kept(inputs(), named_card(size)).keeps for size in (12, 16, 24, 80)]
    assert found == sorted(found)
    assert found[0] < found[1] < found[-1] == 2


@pytest.mark.parametrize("arch", ["flux", "flux2", "flux2_klein_9b", "flux2_klein_4b"])
@pytest.mark.parametrize("card_gb", [16, 24, 48, 80, 141])
def test_they_leave_a_part_of_the_card_free(arch: str, card_gb: int) -> None:
    card = named_card(card_gb)
    chosen = with_kept(inputs(arch), card)
    assert card.gpu_bytes is not None
    assert chosen.keeps == 0 or make_plan(chosen).peak_gpu_bytes < 0.85 * card.gpu_bytes


@pytest.mark.parametrize(
    "other",
    [
        {"backwards": ("autograd",)},
        {"arch": "flux2_klein_9b_kv"},
        {"recomputes": False},
        {"offloads_activations": True},
    ],
    ids=str,
)
def test_where_there_is_no_choice_the_plan_stays_as_it_is(other: dict[str, Any]) -> None:
    assert with_kept(inputs(**other), named_card(80)).keeps == 0


def test_in_ram_blocks_keep_no_more_than_the_output_of_attention() -> None:
    assert with_kept(inputs(device="cpu"), Machine("a machine", ram_bytes=1 << 40)).keeps == 1


NO_MORE: list[dict[str, Any]] = [{}, {"offloads_activations": True}, {"qtype": "qfloat8"}, {"recomputes": False}]


# In fp32, FLUX.1's blocks take 0.6 % more if they are run again as a whole: what they keep is freed at their end only.
@pytest.mark.parametrize(("arch", "several"), [("flux", NO_MORE), ("flux2_klein_4b", [*NO_MORE, {"width": 4}])])
def test_a_block_of_its_own_needs_no_more_than_one_of_autograd(arch: str, several: list[dict[str, Any]]) -> None:
    for options in several:
        own, autograd = (make_plan(inputs(arch, backwards=(name,), **options)) for name in ("own", "autograd"))
        assert own.peak_gpu_bytes <= autograd.peak_gpu_bytes, options


@pytest.mark.parametrize(
    ("sections", "backwards"),
    [
        ({}, ("own",)),
        ({"network": {"type": "dora"}}, ("autograd",)),
        ({"network": {"dropout": 0.1}}, ("autograd",)),
        ({"network": {"transformer_only": False}}, ("own", "autograd")),
        ({"network": None, "train": {"full_finetune": True, "dtype": "fp32"}}, ("autograd",)),
    ],
    ids=str,
)
def test_the_settings_of_a_job_say_who_makes_the_backward_pass(
    tmp_path: Path, sections: dict[str, Any], backwards: tuple[str, ...]
) -> None:
    process = load_job(write_job(tmp_path, **sections)).training()
    size = find_cards()["flux2_tiny"].size
    assert size is not None
    assert inputs_of(process, size, Workload(1024, 1024), "cuda").backwards == backwards
