"""ui.simple.job_text"""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.cards import ModelCard, find_cards
from toolkit.config import load_job
from toolkit.errors import UserError
from ui.simple.job_text import SIZES, Choices, job_name, job_text, resolutions, suggested_steps

CARDS = [card for card in find_cards().values() if card.family == "flux2"]


def choices(folder: Path, **changes: object) -> Choices:
    values = {
        "name": "My LoRA!",
        "trigger": "zorbo",
        "folder": folder,
        "output": folder,
        "size": "usual",
        "steps": 800,
        "rank": 16,
    }
    return Choices(**({**values, "lr": 1e-4, "prompts": ["a [trigger]"]} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.arch)
@pytest.mark.parametrize("size", SIZES)
def test_every_model_of_the_family_gets_a_job_that_can_be_read(card: ModelCard, size: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(job_text(choices(tmp_path, size=size), card), encoding="utf-8")
    config = load_job(path)
    process = config.training()
    assert config.name == "My_LoRA"
    assert process.model.arch == card.arch
    assert list(process.datasets[0].resolution) == resolutions(card, size)
    assert all(side % card.divisor_px == 0 for side in resolutions(card, size))
    assert (process.train.steps, process.sample.sample_every, process.save.save_every) == (800, 100, 200)
    assert len(config.notices) <= len(card.variants), "at most the advice on what a model is made for"


def test_without_prompts_no_samples_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(job_text(choices(tmp_path, prompts=[" "], trigger=""), CARDS[0]), encoding="utf-8")
    assert load_job(path).training().train.disable_sampling
    assert load_job(path).training().trigger_word is None


def test_a_name_becomes_a_folder_name_or_is_refused() -> None:
    assert job_name("  Ümlaut / style: 2 ") == "Ümlaut_style_2"
    with pytest.raises(UserError, match="letters or numbers"):
        job_name(" /.. ")


def test_the_number_of_steps_follows_the_number_of_pictures() -> None:
    assert [suggested_steps(number) for number in (1, 12, 1000)] == [500, 1200, 4000]
