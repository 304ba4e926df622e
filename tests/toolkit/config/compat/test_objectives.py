"""Which objectives validation can score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toolkit.config import DatasetConfig, ModelConfig, NetworkConfig, TrainConfig, TrainingProcessConfig
from toolkit.config.compat.objectives import objective_problems
from toolkit.objectives.choices import OBJECTIVES

VELOCITIES: tuple[dict[str, Any], ...] = (
    {"loss_type": "mae"},
    {"timestep_type": "weighted"},
    {"diff_output_preservation": True, "diff_output_preservation_class": "cat"},
    {"blank_prompt_preservation": True},
    {"do_guidance_loss": True},
    {"do_differential_guidance": True},
)


def _problems(**train: Any) -> list[str]:
    job = TrainingProcessConfig(
        type="sd_trainer",
        model=ModelConfig(name_or_path="small", arch="small"),
        datasets=(DatasetConfig(folder_path=Path()),),
        network=NetworkConfig(),
        trigger_word="zorbo",
        train=TrainConfig.model_validate({"validation_config": {}, **train}),
    )
    return [problem.what for problem in objective_problems(job) if problem.where == "train.validation_config"]


@pytest.mark.parametrize("train", VELOCITIES, ids=lambda train: next(iter(train)))
def test_validation_goes_with_every_way_to_learn_the_velocity(train: dict[str, Any]) -> None:
    assert _problems(**train) == []


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "velocity"])
def test_validation_of_another_objective_is_refused_with_the_reason(objective: str) -> None:
    (what,) = _problems(objective=objective, objective_params=_needed(objective))
    learned = "a mean velocity" if OBJECTIVES[objective].has_steps else "a difference of predictions"
    assert f"`objective: {objective}` learns {learned}" in what
    assert "remove the key" in what


def _needed(objective: str) -> dict[str, Any]:
    return {"positive_prompt": "old", "negative_prompt": "young"} if objective == "concept_slider" else {}
