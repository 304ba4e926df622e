"""Every job file in config/examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.cards import find_cards
from toolkit.config import JobConfig, load_job
from toolkit.config.released import plain_name

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "config" / "examples").glob("*.yaml"))


def _load(path: Path, images: Path) -> JobConfig:
    """The job with folders that exist."""
    keys = ["folder_path", *(["control_path"] if "control_path" in path.read_text(encoding="utf-8") else [])]
    return load_job(path, None, [f"datasets.0.{key}={images}" for key in keys])


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_an_example_is_valid_as_soon_as_it_has_images(example: Path, tmp_path: Path) -> None:
    job = _load(example, tmp_path)
    assert job.notices == ()


def test_an_examples_samples_have_no_gaps(example: Path, tmp_path: Path) -> None:
    (process,) = _load(example, tmp_path).config.process
    items = process.sample.items(process.trigger_word)
    assert items
    assert not any("[" in item.prompt for item in items)


def test_an_example_names_the_weights_that_its_card_names(example: Path, tmp_path: Path) -> None:
    model = _load(example, tmp_path).config.process[0].model
    card = find_cards()[model.arch]
    variants = [name for variant in card.variants for name in variant.names]
    assert model.name_or_path == card.source or plain_name(model.name_or_path) in variants


def test_every_model_has_an_example(tmp_path: Path) -> None:
    jobs = [_load(path, tmp_path) for path in EXAMPLES]
    assert {job.config.process[0].model.arch for job in jobs} == set(find_cards())
