"""Every job file in config/examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from toolkit.cards import find_cards, read_cards
from toolkit.config import JobConfig, load_job
from toolkit.config.compat.released import plain_name
from toolkit.plan.machine import named_card
from toolkit.plan.memory_plan import make_plan
from toolkit.plan.of_job.inputs import inputs_of
from toolkit.plan.workload import assumed_needs, workload_of
from toolkit.units import as_size

ROOT = Path(__file__).resolve().parent.parent
CARD = re.compile(r"_(\d+)gb$")
EXAMPLES = sorted((ROOT / "config" / "examples").glob("train_*.yaml"))
OTHERS = sorted({*(ROOT / "config" / "examples").glob("*.yaml")} - {*EXAMPLES})


def with_images(path: Path, folder: Path, *settings: str) -> JobConfig:
    """The job of an example whose user has put images where it says, with `key=value` settings."""
    text, picture = path.read_text(encoding="utf-8"), ROOT / "assets" / "demo_edit_dataset" / "unseen" / "1.png"
    keys = [key for key in ("folder_path", "control_path", "clip_image_path") if f"{key}:" in text]
    overrides = [f"datasets.0.{key}={folder}" for key in keys]
    if "clip_image_path" in keys:
        overrides += [f"adapter.image_encoder_path={folder}", f"adapter.test_img_path={picture}"]
    for index in range(max(text.count(" ctrl_img: "), int("control_path" in keys))):
        overrides.append(f"sample.samples.{index}.ctrl_img={picture}")
    return load_job(path, None, [*overrides, *settings])


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_an_example_is_valid_as_soon_as_it_has_images(example: Path, tmp_path: Path) -> None:
    job = with_images(example, tmp_path)
    assert job.notices == ()


@pytest.mark.parametrize("other", OTHERS, ids=lambda path: path.stem)
def test_an_example_of_another_kind_is_valid_as_it_is(other: Path) -> None:
    job = load_job(other)
    assert job.notices == ()
    assert job.job in other.stem


def test_an_examples_samples_have_no_gaps(example: Path, tmp_path: Path) -> None:
    process = with_images(example, tmp_path).training()
    items = process.sample.items(process.trigger_word)
    assert items
    assert not any("[" in item.prompt for item in items)


def test_an_example_names_the_weights_that_its_card_names(example: Path, tmp_path: Path) -> None:
    model = with_images(example, tmp_path).training().model
    card = find_cards()[model.arch]
    variants = [name for variant in card.variants for name in variant.names]
    assert model.name_or_path == card.source or plain_name(model.name_or_path) in variants


def test_every_model_has_an_example(tmp_path: Path) -> None:
    jobs = [with_images(path, tmp_path) for path in EXAMPLES]
    ours = {arch for arch, package in read_cards().packages.items() if package.is_built_in}
    assert {job.training().model.arch for job in jobs} == ours


@pytest.mark.parametrize("example", [path for path in EXAMPLES if CARD.search(path.stem)], ids=lambda path: path.stem)
def test_an_example_fits_the_card_in_its_name(example: Path, tmp_path: Path) -> None:
    named = CARD.search(example.stem)
    assert named is not None
    process = with_images(example, tmp_path).training()
    card = find_cards()[process.model.arch]
    assert card.size is not None
    plan = make_plan(inputs_of(process, card.size, workload_of(assumed_needs(process, card), card), "cuda"))
    assert named_card(float(named[1])).fits(plan), as_size(plan.peak_gpu_bytes)
