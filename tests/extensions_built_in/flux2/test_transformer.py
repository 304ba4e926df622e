"""References in training are what diffusers' pipelines give the transformer when they draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Pipeline, Flux2Transformer2DModel
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from PIL import Image

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from tests.tiny import tiny_model
from toolkit.config import SampleItem
from toolkit.data.image_files import inspect_image
from toolkit.data.images import load_image, load_pixels
from toolkit.data.references import ReferenceRules
from toolkit.models.condition import Condition, SampleCondition

SIZES = [(100, 70), (64, 96), (81, 130)]
ITEM = SampleItem("a red circle", "blurry", 32, 48, 0, 4.0, 2, 1.0)


@pytest.fixture(scope="module")
def model() -> Flux2TinyModel:
    return tiny_model("text_encoder", "vae", "transformer")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Noise: any pixel in the wrong place shows."""
    random = np.random.default_rng(0)
    paths = [tmp_path_factory.mktemp("references") / f"{index}.png" for index in range(len(SIZES))]
    for path, (width, height) in zip(paths, SIZES, strict=True):
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


def _latents(model: Flux2TinyModel, paths: list[Path]) -> list[torch.Tensor]:
    """As training encodes them: one [1, C, h, w] for each reference."""
    rules = ReferenceRules(model.card.reference_limits, 16)
    references = rules.fit([(path, inspect_image(path)) for path in paths], (32, 48), background=(0, 0, 0))
    return [model.encode_images(load_pixels(one, background=(0, 0, 0)).unsqueeze(0)) for one in references]


@contextmanager
def _calls(transformer: Flux2Transformer2DModel) -> Iterator[list[tuple[dict[str, Any], torch.Tensor]]]:
    """Arguments and output of every forward pass."""
    seen: list[tuple[dict[str, Any], torch.Tensor]] = []

    def note(_: Any, __: Any, arguments: dict[str, Any], output: tuple[torch.Tensor]) -> None:
        seen.append((arguments, output[0]))

    handle = transformer.register_forward_hook(note, with_kwargs=True)
    yield seen
    handle.remove()


def _assert_equal_forward(
    transformer: Flux2Transformer2DModel,
    theirs: tuple[dict[str, Any], torch.Tensor],
    references: list[torch.Tensor],
    *,
    guidance: float,
) -> None:
    """Our forward on the pipeline's noise, timestep and embeddings, with our references, gives what theirs gave."""
    arguments, output = theirs
    noisy = arguments["hidden_states"][:, :6].transpose(1, 2).reshape(1, -1, 3, 2)  # 32 x 48 pixels
    with torch.no_grad(), _calls(transformer) as ours:
        velocity = predict_velocity(
            transformer,
            noisy,
            arguments["timestep"],
            arguments["encoder_hidden_states"],
            guidance=guidance,
            references=references,
        )
    (called, _) = ours[0]
    assert torch.equal(called["img_ids"].expand_as(arguments["img_ids"]), arguments["img_ids"])
    assert torch.equal(called["txt_ids"].expand_as(arguments["txt_ids"]), arguments["txt_ids"])
    assert torch.allclose(called["hidden_states"], arguments["hidden_states"], atol=1e-4)
    assert velocity.shape == noisy.shape
    expected = output[:, :6].transpose(1, 2).reshape(noisy.shape)
    assert (velocity - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_our_forward_is_that_of_the_klein_pipeline(model: Flux2TinyModel, pictures: list[Path], count: int) -> None:
    paths = pictures[:count]
    embeds = {prompt: model.get_prompt_embeds([prompt])[0] for prompt in ITEM.prompts(model.card)}
    shown = [Image.open(path) for path in paths]
    with torch.no_grad(), _calls(model.transformer) as calls:
        pipeline = model.get_generation_pipeline()
        condition = SampleCondition(embeds, references=shown)
        model.generate_single_image(pipeline, ITEM, condition, torch.Generator().manual_seed(1))
    assert len(calls) == 4, "two steps, with and without the prompt"
    for call in calls:
        _assert_equal_forward(model.transformer, call, _latents(model, paths), guidance=1.0)
    times = calls[0][0]["img_ids"][0, :, 0].unique().tolist()
    assert times == [0, 10, 20, 30][: count + 1]


def test_both_branches_of_guidance_see_the_references(model: Flux2TinyModel, pictures: list[Path]) -> None:
    embeds = {prompt: model.get_prompt_embeds([prompt])[0] for prompt in ITEM.prompts(model.card)}
    shown = [Image.open(pictures[0])]
    with torch.no_grad(), _calls(model.transformer) as calls:
        pipeline = model.get_generation_pipeline()
        condition = SampleCondition(embeds, references=shown)
        model.generate_single_image(pipeline, ITEM, condition, torch.Generator().manual_seed(1))
    with_prompt, without = calls[0][0], calls[1][0]
    assert torch.equal(with_prompt["hidden_states"], without["hidden_states"])
    assert not torch.equal(with_prompt["encoder_hidden_states"], without["encoder_hidden_states"])


def test_our_forward_is_that_of_the_dev_pipeline(model: Flux2TinyModel, pictures: list[Path]) -> None:
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        in_channels=model.transformer.config.in_channels,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=True,
    ).eval()
    parts = {**model._pipeline_parts(), "transformer": transformer}
    pipeline = Flux2Pipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad(), _calls(transformer) as calls:
        pipeline(
            prompt_embeds=torch.randn(1, 7, 24),
            image=[Image.open(path) for path in pictures[:2]],
            width=32,
            height=48,
            num_inference_steps=2,
            guidance_scale=2.5,
        )
    assert len(calls) == 2
    for call in calls:
        _assert_equal_forward(transformer, call, _latents(model, pictures[:2]), guidance=2.5)


def test_the_pipeline_changes_nothing_about_references_that_we_prepared(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1503, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    info, rules = inspect_image(path), ReferenceRules(tiny_model().card.reference_limits, 16)
    ours = rules.fit([(path, info), (path, info)], (32, 48), background=(0, 0, 0))[0]
    shown = load_image(ours, background=(0, 0, 0))
    processor = Flux2ImageProcessor(vae_scale_factor=16)
    theirs = processor._resize_to_target_area(Image.open(path), 1024**2)
    width, height = theirs.width // 16 * 16, theirs.height // 16 * 16
    expected = processor.preprocess(theirs, height=height, width=width, resize_mode="crop")
    again = processor.preprocess(shown, height=shown.height, width=shown.width, resize_mode="crop")
    assert torch.equal(again, expected)
    assert torch.allclose(load_pixels(ours, background=(0, 0, 0)).unsqueeze(0), expected, atol=1e-6)


def test_a_reference_changes_the_prediction_of_its_own_sample_only(model: Flux2TinyModel) -> None:
    torch.manual_seed(0)
    noisy, embeds, reference = torch.randn(2, 64, 2, 2), torch.randn(2, 48, 192), torch.randn(2, 64, 4, 6)
    other = reference.clone()
    other[1] += 1
    timestep = torch.tensor([300.0, 700.0])
    with torch.no_grad():
        conditions = (Condition(embeds, references=[shown]) for shown in (reference, other))
        one, two = (model.get_noise_prediction(noisy, timestep, condition) for condition in conditions)
    assert torch.allclose(one[0], two[0], atol=1e-5)
    assert not torch.allclose(one[1], two[1], atol=1e-3)
