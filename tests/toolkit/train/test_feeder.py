"""The batches of a run."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from scripts.flux2_tiny.vision import write_vision_encoder
from tests.tiny import tiny_model, write_dataset
from tests.toolkit.parallel.fake_ranks import FakeRanks
from toolkit.adapters.adapter_set import view_name
from toolkit.config import DatasetConfig
from toolkit.data import BatchPlan, scan_datasets
from toolkit.data.examples import ViewImage
from toolkit.encode.encodings import Encodings
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.encode.views import ViewEncoder
from toolkit.encode.vision import ViewInput, VisionEncoder
from toolkit.files import sha256_file
from toolkit.objectives.batch import Batch, noise_of
from toolkit.parallel.ranks import OneProcess, Ranks
from toolkit.plan.needs import View
from toolkit.randomness import Draws
from toolkit.train.feed.encoded import Encoded
from toolkit.train.feeder import Feeder, FeedSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images; beside them `one` and `two` with references, wide and square."""
    write_dataset(tmp_path / "images")
    for name, size in (("one", (96, 64)), ("two", (64, 64))):
        (tmp_path / name).mkdir()
        for index in range(4):
            Image.new("RGB", size, (60 * index, 0, 99)).save(tmp_path / name / f"{index}.png")
    return tmp_path


def _feeder(
    folder: Path, *, rate: float, batch_size: int = 2, accumulation: int = 1, ranks: Ranks | None = None
) -> Feeder:
    dataset = DatasetConfig.model_validate(
        {
            "folder_path": folder / "images",
            "control_path": [folder / "one", folder / "two"],
            "control_dropout_rate": rate,
            "resolution": 32,
        }
    )
    examples = scan_datasets([dataset], divisor_px=16, trigger_word=None).examples
    model, draws = tiny_model(), Draws(3)
    encodings = Encodings(print, overflow=folder / "overflow")
    prompts = PromptEncoder(model, encodings, fingerprint=model.fingerprint("text_encoder"), warn=print)
    images = ImageEncoder(model, encodings, fingerprint=model.fingerprint("vae"), backgrounds=[(0, 0, 0)])
    for example in examples:
        prompts.add("", folder=None)
        images.add(example, folder=None)
        for reference in example.references:
            images.add(reference, folder=None)
    model.free("vae")
    plan = BatchPlan(examples, batch_size, draws)
    settings = FeedSettings(accumulation, use_captions=False)
    return Feeder(model, plan, Encoded(prompts, images), settings, draws, ranks or OneProcess())


def test_a_batch_has_the_references_of_its_examples_without_the_vae(folder: Path) -> None:
    feeder = _feeder(folder, rate=0)
    batch = feeder.batch(0)
    assert feeder.model.vae is None
    assert [tuple(latents.shape) for latents in batch.condition.references] == [(2, 64, 4, 6), (2, 64, 4, 4)]
    examples = [feeder.plan.examples[place] for place in feeder.plan.batch(0)]
    for row, example in enumerate(examples):
        for latents, reference in zip(batch.condition.references, example.references, strict=True):
            assert torch.equal(latents[row], feeder.encoded.images[reference])
    assert batch.num_tokens == 4, "references do not count"


def test_references_are_dropped_as_often_as_asked_and_the_same_each_time(folder: Path) -> None:
    feeder = _feeder(folder, rate=0.3)
    dropped = [not feeder.batch(index).condition.references for index in range(100)]
    assert 0.15 < sum(dropped) / 100 < 0.45
    assert dropped[50:60] == [not feeder.batch(index).condition.references for index in range(50, 60)]
    always = _feeder(folder, rate=1)
    assert all(not always.batch(index).condition.references for index in range(5))


def _same(one: Batch, other: Batch) -> bool:
    tensors = [(batch.latents, batch.condition.prompt_embeds, *batch.condition.references) for batch in (one, other)]
    return one.index == other.index and all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


@pytest.mark.parametrize("accumulation", [1, 3])
def test_two_ranks_draw_the_batches_that_one_draws_with_twice_the_accumulation(folder: Path, accumulation: int) -> None:
    one = _feeder(folder, rate=0.5, accumulation=2 * accumulation)
    two = [_feeder(folder, rate=0.5, accumulation=accumulation, ranks=FakeRanks(rank, 2)) for rank in range(2)]
    for step in range(3):
        expected = one.batches(step)
        parts = zip(*(feeder.batches(step) for feeder in two), strict=True)
        found = [batch for part in parts for batch in part]
        assert len(found) == len(expected) == 2 * accumulation
        assert all(_same(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


def test_images_of_adapters_are_dropped_for_whole_batches_as_often_as_asked_and_the_same_each_time(
    folder: Path, tmp_path: Path
) -> None:
    feeder = _seeing(folder, tmp_path, rate=0.3, drops=True)
    shown = [view_name(2) in feeder.batch(index).condition.extras for index in range(200)]
    assert 0.6 < sum(shown) / len(shown) < 0.8
    again = _seeing(folder, tmp_path, rate=0.3, drops=True)
    assert [view_name(2) in again.batch(index).condition.extras for index in reversed(range(200))] == shown[::-1]
    without_network = _seeing(folder, tmp_path, rate=0.3, drops=False)
    assert all(view_name(2) in without_network.batch(index).condition.extras for index in range(50))


def test_a_batch_has_what_the_encoder_made_of_its_own_images(folder: Path, tmp_path: Path) -> None:
    feeder = _seeing(folder, tmp_path, rate=0, drops=True)
    batch = feeder.batch(0)
    view = batch.condition.extras[view_name(2)]
    assert view.dtype == torch.float32 and view.shape == (2, 16, 64)
    (one,) = feeder.settings.views
    for row, member in zip(view, feeder.plan.batch(0), strict=True):
        image = feeder.plan.examples[member].view
        assert image is not None
        assert torch.equal(row, feeder.encoded.features(one.encoder, image).float())
    assert not torch.equal(view[0], view[1])


def _seeing(folder: Path, tmp_path: Path, *, rate: float, drops: bool) -> Feeder:
    """A feeder of adapter number 2, which sees the images of the folder `one`."""
    encoder = VisionEncoder(str(write_vision_encoder(tmp_path / "siglip")), "auto", "last_hidden_state")
    plain = _feeder(folder, rate=0)
    views = ViewEncoder(plain.encoded.images.encodings, torch.device("cpu"))
    pictures = sorted((folder / "one").iterdir())
    examples = [
        replace(example, view=ViewImage(picture, sha256_file(picture)))
        for example, picture in zip(plain.plan.examples, pictures, strict=True)
    ]
    for example in examples:
        assert example.view is not None
        views.add(View(example.view, encoder, None), folder=None)
    views.free()
    settings = replace(plain.settings, views=(ViewInput(2, encoder, rate),), drops_views=drops)
    encoded = replace(plain.encoded, views=views)
    return Feeder(plain.model, BatchPlan(examples, 2, plain.draws), encoded, settings, plain.draws, OneProcess())


@pytest.mark.parametrize("start", [0, 3])
def test_batches_made_ahead_are_those_made_in_their_turn(start: int, folder: Path, tmp_path: Path) -> None:
    """Over several epochs of four images, on the second of two ranks."""
    ranks, num_steps = FakeRanks(1, 2), 7
    plain, feeder = (_feeder(folder, rate=0.3, accumulation=3, ranks=ranks) for _ in range(2))
    feeder.settings = replace(feeder.settings, num_steps=num_steps)
    plain.settings = feeder.settings
    made, make = list[bool](), feeder._on_cpu
    feeder._on_cpu = lambda step: (made.append(_is_main()), make(step))[1]  # type: ignore[method-assign, func-returns-value]
    with feeder.ahead():
        for step in range(start, num_steps):
            expected, found = plain.batches(step), feeder.batches(step)
            assert len(found) == 3 and all(_same(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
            assert all(
                batch.noise is not None and torch.equal(batch.noise, noise_of(one, plain.draws))
                for one, batch in zip(expected, found, strict=True)
            )
            assert feeder.num_samples(step) == plain.num_samples(step)
    assert made == [False] * (num_steps - start), "each once, and none beyond the last step"


def test_batches_that_need_the_vae_are_made_in_their_turn(folder: Path) -> None:
    feeder = _feeder(folder, rate=1)
    drawn = [replace(example, random_crop=True) for example in feeder.plan.examples]
    plan = BatchPlan(drawn, 2, feeder.draws)
    feeder = Feeder(feeder.model, plan, feeder.encoded, feeder.settings, feeder.draws, OneProcess())
    with feeder.ahead():
        before = threading.active_count()
        (batch,) = feeder.batches(0)
        assert threading.active_count() == before and feeder.model.vae is not None
        assert _same(batch, feeder.batch(0))


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
