"""Over-fitting that was planted in the tiny model is found, and healthy runs raise no warning.

Each run takes seconds: the model is real, and so is what it learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import ROOT, checked_of, tiny_model
from toolkit.config import TrainingProcessConfig
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.networks.network import Network
from toolkit.objectives.choices import OBJECTIVES
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.runtime.stop import StopRequest
from toolkit.train.feed.encoded import Encoded
from toolkit.train.feeder import Feeder
from toolkit.train.learner import build_learner
from toolkit.train.step import Stepper
from toolkit.train.trainable import NetworkWeights
from toolkit.train.validation.history import History
from toolkit.train.validation.judge import best_of, over_fit
from toolkit.train.validation.scorer import Scorer

IMAGES = ROOT / "assets" / "demo_dataset"  # 12 of them
HEALTHY = {"steps": 30, "lr": 5e-4, "lr_scheduler": "cosine"}
HEALTHY_SPLIT = 4
PLANTED = {"steps": 40, "lr": 4e-3}
PLANTED_SPLIT = 9
EVERY = 5  # steps between two rounds
SEEDS = range(1, 21)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    """Encodes whatever it is asked for, once."""
    model = tiny_model()
    encodings = Encodings(print, overflow=tmp_path_factory.mktemp("encoded"))
    prompts = PromptEncoder(model, encodings, fingerprint="text encoder", warn=print)
    return Encoded(prompts, ImageEncoder(model, encodings, fingerprint="vae", backgrounds=[(255, 255, 255)]))


def _run(
    folder: Path,
    encoded: Encoded,
    train: Mapping[str, Any],
    *,
    split: int,
    seed: int,
    ends_when_found: bool = False,
) -> tuple[History, list[int]]:
    """Train, and score every few steps. Returns the rounds, and the steps at which over-fitting was reported."""
    validation: dict[str, Any] = {"validation_split": split, "validate_every_n_steps": EVERY, "max_images": 3}
    validation |= {"questions": ["held_out", "overfit"], "validation_sigmas": [0.875, 0.625, 0.375, 0.125]}
    checked = checked_of(
        folder,
        network={"type": "lora", "linear": 32, "linear_alpha": 32, "transformer_only": False},
        datasets=[{"folder_path": str(IMAGES), "resolution": 128}],
        train={**train, "batch_size": 2, "content_or_style": "content", "validation_config": validation},
        trigger_word="zorbo",
        training_seed=seed,
    )
    config, grid, ranks = checked.config, checked.grid, OneProcess()
    assert isinstance(config, TrainingProcessConfig)
    assert config.network is not None
    for text in checked.needs.texts:
        encoded.prompts.add(text, folder=None)
    for picture in checked.needs.pictures:
        encoded.images.add(picture.source, folder=None)
    model, draws = tiny_model("transformer"), Draws(seed)
    network = Network(model, config.network, draws)
    network.apply()
    model.prepare_backward(recomputes=False, keeps=1.0)
    learner = build_learner(model, NetworkWeights(network), config.train, draws=draws, ranks=ranks)
    feeder = Feeder.of_run(config, checked.scan.examples, model, encoded, ranks=ranks)
    stepper = Stepper(learner, OBJECTIVES["velocity"].load().from_config(config.train), draws, ranks)
    scorer, stop = Scorer(grid, feeder, learner, has_base=True, store=folder / "base.safetensors"), StopRequest()
    history, reported = History(grid), []
    history.restart(scorer.base(stop) or [], 0)
    for step in range(config.train.steps + 1):
        if step % EVERY == 0:
            history.add(step, scorer.score(stop) or [])
            reported += [step] if over_fit(history) else []
            if reported and ends_when_found:
                break
        if step < config.train.steps:
            stepper.train_step(step, feeder.batches(step))
    return history, reported


def test_a_run_on_three_images_at_a_high_rate_is_found_to_over_fit(encoded: Encoded, tmp_path: Path) -> None:
    history, reported = _run(tmp_path, encoded, PLANTED, split=PLANTED_SPLIT, seed=1, ends_when_found=True)
    assert reported
    best = best_of(history)
    assert best is not None
    assert best.step < reported[0]


@pytest.mark.torture
@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_run_raises_no_warning(seed: int, encoded: Encoded, tmp_path: Path) -> None:
    history, reported = _run(tmp_path, encoded, HEALTHY, split=HEALTHY_SPLIT, seed=seed)
    assert reported == []
    best = best_of(history)
    assert best is not None
    assert best.figure.mean < 0  # it has learned
