"""jobs.process.model_files"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from jobs.process import model_files
from jobs.process.model_files import ModelFacts, check_model_files
from tests.drawing import write_drawing
from tests.tiny import TINY, write_job
from toolkit.cards import find_cards
from toolkit.config import NetworkConfig, TrainingProcessConfig, load_job
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.errors import Mistakes, UserError
from toolkit.quantize.cache_folder import trainer_cache

CARD = find_cards()["flux2_tiny"]


def _facts(config: TrainingProcessConfig) -> ModelFacts:
    mistakes = Mistakes()
    facts = check_model_files(config, CARD, mistakes)
    if mistakes:
        raise mistakes.error("job.yaml")
    return facts


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingProcessConfig:
    """A job with a model of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(TINY, tmp_path / "model")
    model = {"name_or_path": str(tmp_path / "model"), "arch": "flux2_tiny"}
    return load_job(write_job(tmp_path, model=model)).training()


def test_a_sound_verdict_is_kept_and_damage_after_it_is_found(config: TrainingProcessConfig) -> None:
    facts = _facts(config)
    assert facts.num_weights and facts.num_assistant_weights == 0
    assert _facts(config) == facts
    assert len(list((trainer_cache() / "checked").iterdir())) == 2, "for the training, and for drawing"
    weights = next((Path(config.model.name_or_path) / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    for _ in range(2):
        with pytest.raises(UserError, match=weights.name):
            _facts(config)


def test_a_changed_header_of_the_same_size_and_time_is_found(config: TrainingProcessConfig) -> None:
    _facts(config)
    weights = next((Path(config.model.name_or_path) / "transformer").glob("*.safetensors"))
    before, content = weights.stat(), bytearray(weights.read_bytes())
    content[content.index(b"weight")] = ord("v")
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError):
        _facts(config)


def test_what_was_checked_for_a_training_is_known_to_a_drawing_with_the_same_model(
    config: TrainingProcessConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = _facts(config)
    assert facts.lora_sides
    model = {"name_or_path": str(tmp_path / "model"), "arch": "flux2_tiny"}
    job = load_job(write_drawing(tmp_path, generate={}, model=model, dtype=config.train.dtype))
    (drawing,) = job.config.process
    assert isinstance(drawing, GenerateProcessConfig)
    monkeypatch.setattr(model_files, "_inspect", _inspected)
    found = _facts(drawing.as_training(drawing.generate.items(None), job.name))
    assert found == ModelFacts(facts.num_weights, 0)
    assert config.network is not None
    other = config.model_copy(update={"network": NetworkConfig(linear=config.network.linear + 1)})
    with pytest.raises(AssertionError, match="inspected"):
        _facts(other)


def _inspected(*given: object) -> ModelFacts:
    raise AssertionError("inspected")
