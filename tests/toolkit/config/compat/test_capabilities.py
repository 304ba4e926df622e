from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.config.compat.capabilities import beyond_the_model

CARD = ModelCard("one", "one", "One", "For tests.", "", "none", False, 16, 1)


def _process(tmp_path: Path) -> TrainingProcessConfig:
    dataset = {"folder_path": tmp_path}
    return TrainingProcessConfig.model_validate(
        {
            "type": "sd_trainer",
            "datasets": [dataset, {**dataset, "control_path_2": tmp_path}],
            "model": {"name_or_path": "owner/one", "arch": "one"},
            "sample": {"prompts": ["a", "b --ctrl_img c.png"]},
        }
    )


def test_references_are_refused_where_the_model_takes_none(tmp_path: Path) -> None:
    problems = beyond_the_model(_process(tmp_path), CARD)
    assert [problem.where for problem in problems] == ["datasets[1].control_path", "sample.samples[1].ctrl_img"]
    assert all("One takes no reference images" in problem.what for problem in problems)


def test_references_are_accepted_where_the_model_takes_them(tmp_path: Path) -> None:
    assert beyond_the_model(_process(tmp_path), replace(CARD, capabilities=frozenset({"references"}))) == []


def test_guidance_is_refused_where_it_would_be_ignored(tmp_path: Path) -> None:
    card = replace(CARD, capabilities=frozenset({"fixed_guidance", "references"}))
    process = _process(tmp_path)
    problems = beyond_the_model(process, card)
    assert [problem.where for problem in problems] == [f"sample.samples[{i}].guidance_scale" for i in range(2)]
    assert all("One works with guidance 1 only" in problem.what for problem in problems)
    sample = process.sample.model_copy(update={"guidance_scale": 1.0})
    assert beyond_the_model(process.model_copy(update={"sample": sample}), card) == []
