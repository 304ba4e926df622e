"""The changes that a refusal offers, written into the job that was refused."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.test_examples import with_images
from toolkit.cards import find_cards
from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.plan.auto import choose_settings, with_shares
from toolkit.plan.changes import Way, frozen_weight_changes, training_changes, ways_to_fit
from toolkit.plan.machine import Machine, named_card
from toolkit.plan.memory_plan import Plan, make_plan
from toolkit.plan.of_job.inputs import inputs_of
from toolkit.plan.workload import assumed_needs, workload_of
from toolkit.units import GB

EXAMPLES = Path(__file__).resolve().parents[3] / "config" / "examples"
PLAIN = {
    "model.quantize": False,
    "model.quantize_te": False,
    "model.layer_offloading": False,
    "train.optimizer": "adamw",
    "train.gradient_checkpointing": False,
}


@dataclass(frozen=True)
class TooLarge:
    """An example job, what makes it larger, and the card that it does not fit."""

    example: str
    settings: dict[str, Any]
    card_gb: float
    ram_gb: float | None = None

    @property
    def machine(self) -> Machine:
        card = named_card(self.card_gb)
        ram = None if self.ram_gb is None else round(self.ram_gb * GB)
        return Machine(card.name, card.gpu_bytes, card.gpu_bytes, ram, ram)


JOBS = (
    TooLarge("train_lora_flux2_24gb", {"network.linear": 512}, 24),
    TooLarge("train_lora_flux2_24gb", {"train.batch_size": 8}, 24),
    TooLarge("train_lora_flux2_80gb", PLAIN, 48),
    TooLarge("train_lora_flux2_24gb", {"train.ema_config.use_ema": True, "datasets.0.resolution": [2048]}, 16, 64),
    TooLarge("train_lora_flux2_edit_24gb", {"train.batch_size": 2}, 24),
    TooLarge("train_lora_flux2_klein_9b_24gb", PLAIN, 12),
    TooLarge("train_lora_flux2_klein_9b_24gb", PLAIN | {"train.batch_size": 6}, 24, 32),
    TooLarge("train_lora_flux2_klein_4b_16gb", PLAIN | {"datasets.0.resolution": [2048]}, 8),
    TooLarge("train_full_flux2_klein_4b_80gb", {}, 48),
    TooLarge("train_full_flux2_klein_4b_80gb", {"train.batch_size": 4}, 24),
    TooLarge("train_full_flux2_klein_4b_24gb", {"train.batch_size": 8}, 24),
    TooLarge("train_full_flux2_klein_4b_80gb", {"train.dtype": "fp16"}, 48),
    TooLarge("train_lora_flux_24gb", PLAIN, 12, 32),
    TooLarge("train_lora_flux_kontext_24gb", {"train.batch_size": 4, "network.linear": 128}, 24),
    TooLarge("train_lora_flux2_80gb", {"model.low_vram": True}, 32, 64),
)


def planned(job: TooLarge, settings: dict[str, Any], folder: Path) -> Plan:
    """What `--check` plans; the settings are written as `--set` has them."""
    written = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    process = with_images(EXAMPLES / f"{job.example}.yaml", folder, *written).training()
    card = find_cards()[process.model.arch]
    assert card.size is not None
    inputs = inputs_of(process, card.size, workload_of(assumed_needs(process, card), card), "cuda")
    return make_plan(with_shares(process.model, inputs, job.machine))


def offered(job: TooLarge, plan: Plan) -> list[Way]:
    groups = [*frozen_weight_changes(plan.inputs), *training_changes(plan.inputs)]
    return ways_to_fit(plan.inputs, job.machine, groups, most=3)


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_every_change_that_is_offered_makes_the_job_fit_with_the_peak_it_names(job: TooLarge, tmp_path: Path) -> None:
    plan = planned(job, job.settings, tmp_path)
    assert not job.machine.fits(plan), "the job is not too large"
    ways = offered(job, plan)
    assert ways
    for way in ways:
        keys = {key.replace("datasets.", "datasets.0."): value for key, value in way.keys.items()}
        changed = planned(job, job.settings | keys, tmp_path)
        assert job.machine.fits(changed), way.keys
        assert changed.peak_gpu_bytes == pytest.approx(way.plan.peak_gpu_bytes, rel=0.02), way.keys
    assert not any(set(one.keys) <= set(other.keys) for one, other in itertools.combinations(ways, 2))


@pytest.mark.parametrize("given", [{}, {"low_vram": True}, {"quantize_te": False}, {"qtype": "qint4"}], ids=str)
@pytest.mark.parametrize("example", ["train_lora_flux2_80gb", "train_lora_flux2_klein_9b_24gb", "train_lora_flux_24gb"])
@pytest.mark.parametrize(("card_gb", "ram_gb"), [(80, 64), (24, 64), (24, 32), (12, 32), (12, 16)])
def test_what_auto_chooses_makes_the_job_fit(
    example: str, given: dict[str, Any], card_gb: float, ram_gb: float, tmp_path: Path
) -> None:
    job = TooLarge(example, {}, card_gb, ram_gb)
    process = with_images(EXAMPLES / f"{example}.yaml", tmp_path).training()
    where = {"arch": process.model.arch, "name_or_path": process.model.name_or_path}
    model = ModelConfig.model_validate({**where, "memory": "auto", **given})
    card = find_cards()[model.arch]
    assert card.size is not None
    work = workload_of(assumed_needs(process, card), card)
    inputs = inputs_of(process.model_copy(update={"model": model}), card.size, work, "cuda")
    try:
        chosen = model.with_settings(choose_settings(model, inputs, job.machine))
    except UserError:  # dev on a small card, or its encoder as it is, which neither card nor RAM can take whole
        assert card_gb < 24 or ("quantize_te" in given and ram_gb < 64)
        return
    inputs = inputs_of(process.model_copy(update={"model": chosen}), card.size, work, "cuda")
    assert job.machine.fits(make_plan(with_shares(chosen, inputs, job.machine)))
