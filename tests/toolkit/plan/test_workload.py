"""What images and their references ask of memory, for every model that takes references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import write_dataset, write_job
from toolkit.adapters.view_shape import ViewShape
from toolkit.cards import ModelCard, find_cards
from toolkit.config import DatasetConfig, load_job
from toolkit.data import scan_datasets
from toolkit.data.examples import ViewImage
from toolkit.data.references import ReferenceRules
from toolkit.encode.vision import EncoderFacts, VisionEncoder
from toolkit.objectives.choices import OBJECTIVES, Passes
from toolkit.plan.memory_plan import make_plan
from toolkit.plan.needs import Needs, View
from toolkit.plan.plan_inputs import PlanInputs, Workload
from toolkit.plan.step_memory import num_tokens, step_moments
from toolkit.plan.workload import assumed_needs, view_bytes, workload_of
from toolkit.train.tasks.sample_needs import sample_needs

CARDS = [card for card in find_cards().values() if "references" in card.capabilities]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.arch)
def test_a_sample_counts_its_references_as_training_sees_them(card: ModelCard, tmp_path: Path) -> None:
    Image.new("RGB", (1504, 1200)).save(tmp_path / "large.png")
    images = [{"folder_path": str(write_dataset(tmp_path / "images", count=1, size_px=64))}]
    drawn = {"samples": [{"prompt": "x", "ctrl_img": str(tmp_path / "large.png")}], "width": 512, "height": 256}
    process = load_job(write_job(tmp_path, datasets=images, sample=drawn, train={"disable_sampling": False})).training()
    work = workload_of(Needs(trained=(((64, 64),),)) | sample_needs(process, card, tmp_path), card)
    whole = 1504 * 1200 if card.reference_limits.max_area_px > 1024**2 else work.shown_px
    assert work.shown_px == whole > 1_000_000
    assert work.sample_px == 512 * 256 + whole
    assert card.size is not None
    plan = make_plan(PlanInputs(card.size, work, "cuda"))
    sample = next(phase for phase in plan.phases if phase.name == "sample")
    assert sample.device["working set"] >= round(card.size.vae.encode.at(is_mixed=True) * work.shown_px)


@pytest.mark.parametrize("match_target", [False, True])
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.arch)
def test_a_reference_counts_in_the_tokens_of_a_step(card: ModelCard, match_target: bool, tmp_path: Path) -> None:
    images, control = write_dataset(tmp_path / "images", count=1, size_px=64), tmp_path / "control"
    control.mkdir()
    Image.new("RGB", (128, 96)).save(control / "0.png")
    dataset = DatasetConfig.model_validate({"folder_path": images, "control_path": control, "resolution": 64})
    rules = ReferenceRules(card.reference_limits, card.divisor_px, match_target=match_target)
    scan = scan_datasets([dataset], divisor_px=card.divisor_px, trigger_word=None, rules=rules)
    (example,) = scan.examples
    work = workload_of(Needs(trained=(example.layout,)), card)
    width, height = example.references[0].fit.bucket
    assert (work.reference_px, work.train_px) == (width * height, 64 * 64 + width * height)
    assert work.reference_px <= 64 * 64 if match_target else work.reference_px == 128 * 96
    assert card.size is not None
    alone = PlanInputs(card.size, Workload(train_px=64 * 64, encode_px=0), "cpu")
    added = num_tokens(alone, work.train_px) - num_tokens(alone, alone.work.train_px)
    assert added == width * height // card.size.transformer.px_per_token


def test_an_objective_of_two_passes_keeps_the_activations_of_one_and_the_gradients_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, card = load_job(write_job(tmp_path)).training(), find_cards()["flux2_tiny"]
    assert card.size is not None
    moments: list[list[dict[str, int]]] = []
    for count in (1, 2):
        monkeypatch.setitem(OBJECTIVES, "velocity", replace(OBJECTIVES["velocity"], passes=Passes(count, 1)))
        inputs = PlanInputs(card.size, workload_of(assumed_needs(process, card), card), "cuda")
        moments.append(list(step_moments(inputs)))
    one, two = ([moment.get("activations", 0) for moment in found] for found in moments)
    assert one == two and max(one) > 0
    assert moments[1][1]["gradients"] > moments[0][1]["gradients"]


def test_views_count_once_for_each_encoder_and_image(tmp_path: Path) -> None:
    card = find_cards()["flux2_tiny"]
    encoders = {
        VisionEncoder(name, "auto", "last_hidden_state"): EncoderFacts(ViewShape(tokens, 64), weights, 100 * tokens)
        for name, tokens, weights in (("small", 16, 1000), ("large", 256, 9000))
    }
    unknown = VisionEncoder("owner/unknown", "auto", "last_hidden_state")
    views = [ViewImage(tmp_path / f"{name}.png", name[0]) for name in ("a", "a again", "b")]
    kept = {"a": tmp_path, "b": None}
    needs = Needs(
        trained=(((64, 64),),),
        views=tuple(View(view, one, kept[view.content_hash]) for one in (*encoders, unknown) for view in views),
    )
    assert view_bytes(needs, encoders) == 2 * 2 * (16 + 256) * 64
    assert view_bytes(needs, encoders, on_disk=True) == 2 * (16 + 256) * 64
    work = workload_of(needs, card, encoders)
    assert (work.view_parameters, work.view_numbers) == (9000, 25600)
    assert work.encodings == view_bytes(needs, encoders)
    assert workload_of(needs, card).view_parameters == 0


@pytest.mark.parametrize("is_kept", [True, False])
def test_prompts_of_samples_are_kept_with_the_captions(is_kept: bool, tmp_path: Path) -> None:
    images = str(write_dataset(tmp_path / "images", count=1, size_px=64))
    cached = [{"folder_path": images, "cache_text_embeddings": is_kept}]
    sample, train = {"prompts": ["a red circle"]}, {"disable_sampling": False}
    process = load_job(write_job(tmp_path, datasets=cached, sample=sample, train=train)).training()
    card = next(card for card in CARDS if card.arch == "flux2_tiny")
    folders = set(sample_needs(process, card, tmp_path).texts.values())
    assert folders == {Path(images) / "_t_e_cache" if is_kept else None}
