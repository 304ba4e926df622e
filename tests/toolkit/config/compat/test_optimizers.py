"""toolkit.config.compat.optimizers: what does not go together with an optimizer is a problem with advice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import write_job
from toolkit.config.compat.optimizers import optimizer_problems
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.optimizers.row import OptimizerChoice

FULL: dict[str, Any] = {"full_finetune": True, "dtype": "bf16", "max_grad_norm": 0}


def _problems(folder: Path, train: dict[str, Any], **sections: Any) -> dict[str, str]:
    tree = yaml.safe_load(write_job(folder, train=train, **sections).read_text())
    config = TrainingProcessConfig.model_validate(tree["config"]["process"][0])
    return {problem.where: problem.what for problem in optimizer_problems(config)}


@pytest.mark.parametrize(
    ("train", "key", "what"),
    [
        ({"optimizer": "prodigy", "lr": 1e-4}, "train.lr", "Set `lr: 1`"),
        ({"optimizer": "dadapt_lion"}, "train.lr", "Set `lr: 1`"),
        ({"optimizer": "adamw", "lr": 1}, "train.lr", "such as prodigy. With adamw, set `lr: 1e-4`"),
        (
            {"optimizer": "schedulefree_adamw", "ema_config": {"use_ema": True}},
            "train.ema_config",
            "Remove `ema_config`",
        ),
        (
            {"optimizer": "prodigy", "lr": 1, **FULL, "full_finetune_weights": "bf16_split"},
            "train.full_finetune_weights",
            "only one of them in fp32",
        ),
        (
            {"optimizer": "schedulefree_adamw", **FULL, "fused_backward_pass": True},
            "train.fused_backward_pass",
            "updates all weights together",
        ),
        ({"optimizer": "muon", "sharding": "full"}, "train.optimizer", "needs whole weights"),
        ({"optimizer": "no_such_package.Thing"}, "train.optimizer", "no package no_such_package here"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_said_with_the_remedy(train: dict[str, Any], key: str, what: str, tmp_path: Path) -> None:
    sections: dict[str, Any] = {"network": None} if "full_finetune" in train else {}
    problems = _problems(tmp_path, train, **sections)
    assert list(problems) == [key]
    assert what in problems[key]


def test_one_step_size_leaves_no_rates_for_some_weights(tmp_path: Path) -> None:
    network = {"loraplus_lr_ratio": 4.0, "patterns": [{"contains": "mlp", "lr": 0.5}]}
    problems = _problems(tmp_path, {"optimizer": "prodigy", "lr": 1}, network=network)
    assert set(problems) == {"network.loraplus_lr_ratio", "network.patterns[0].lr"}
    assert not _problems(tmp_path, {"optimizer": "lion8bit", "lr": 1e-5}, network=network)


def test_a_missing_library_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OptimizerChoice, "is_installed", property(lambda row: not row.library))
    problems = _problems(tmp_path, {"optimizer": "came"})
    assert problems["train.optimizer"].endswith("not installed: pip install -r requirements-optimizers.txt")
    assert not _problems(tmp_path, {"optimizer": "prodigy8bit", "lr": 1})
