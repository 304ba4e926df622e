"""klein KV in training is what diffusers' KV pipeline computes when it draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinKVPipeline
from PIL import Image
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.klein_kv_model import Flux2Klein9BKVModel
from tests.tiny import tiny_config, tiny_model
from toolkit.config import SampleItem
from toolkit.models.condition import Condition, SampleCondition
from toolkit.randomness import Draws

ITEM = SampleItem("a red circle", "blurry", 32, 48, 0, 1.0, 3, 1.0)
SIZES = [(64, 80), (96, 64)]


class TinyKV(Flux2Klein9BKVModel):
    """The KV model with the tiny one's weights."""

    max_text_tokens = 48


def _model(*components: str) -> TinyKV:
    config = tiny_config(arch="flux2_klein_9b_kv")
    model = TinyKV(config, device=torch.device("cpu"), dtype=torch.float32)
    for component in components:
        model.load(component)  # type: ignore[arg-type]
    return model


@pytest.fixture(scope="module")
def model() -> TinyKV:
    return _model("text_encoder", "vae", "transformer")


def _pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES[:count]]


def _encoded(model: TinyKV, picture: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).unsqueeze(0) / 127.5 - 1
    return model.encode_images(pixels)


@pytest.mark.parametrize("count", [1, 2])
def test_every_step_of_the_kv_pipeline_is_our_forward(
    model: TinyKV, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[dict[str, Any], Tensor]] = []
    handle = model.transformer.register_forward_hook(
        lambda _, __, arguments, output: calls.append((arguments, output[0])), with_kwargs=True
    )
    embeds = {ITEM.prompt: model.get_prompt_embeds([ITEM.prompt])[0]}
    pipeline = model.get_generation_pipeline()
    assert isinstance(pipeline, Flux2KleinKVPipeline)
    with torch.no_grad():
        condition = SampleCondition(embeds, references=_pictures(count))
        model.generate_single_image(pipeline, ITEM, condition, torch.Generator().manual_seed(1))
    handle.remove()
    assert [arguments["kv_cache_mode"] for arguments, _ in calls] == ["extract", "cached", "cached"]
    references = [_encoded(model, picture) for picture in _pictures(count)]
    for arguments, output in calls:
        noisy = arguments["hidden_states"][:, -6:].transpose(1, 2).reshape(1, -1, 3, 2)
        with torch.no_grad():
            velocity = model.get_noise_prediction(
                noisy,
                1000 * arguments["timestep"],
                Condition(arguments["encoder_hidden_states"], references=references),
            )
        expected = output.transpose(1, 2).reshape(noisy.shape)
        assert (velocity - expected).norm() <= 1e-5 * expected.norm()


def _inputs(references: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor, Condition]:
    generator = torch.Generator().manual_seed(0)
    noisy, embeds = torch.randn(2, 64, 2, 2, generator=generator), torch.randn(2, 48, 192, generator=generator)
    return noisy, torch.tensor([300.0, 700.0]), Condition(embeds, references=references)


def test_without_references_it_is_klein(model: TinyKV) -> None:
    with torch.no_grad():
        found = model.get_noise_prediction(*_inputs())
        assert torch.equal(found, tiny_model("transformer").get_noise_prediction(*_inputs()))


def test_references_are_read_in_another_way_than_kleins(model: TinyKV) -> None:
    references = [torch.randn(2, 64, 3, 2), torch.randn(2, 64, 2, 2)]
    with torch.no_grad():
        found = model.get_noise_prediction(*_inputs(references))
        usual = tiny_model("transformer").get_noise_prediction(*_inputs(references))
        first_alone = model.get_noise_prediction(*_inputs(references[:1]))
    assert (found - usual).norm() > 1e-3 * usual.norm()
    assert (found - first_alone).norm() > 1e-3 * usual.norm()


def test_a_lora_on_it_learns_the_same_with_and_without_checkpointing() -> None:
    from toolkit.config import NetworkConfig
    from toolkit.networks.network import Network

    references, gradients = [torch.ones(2, 64, 3, 2)], []
    for is_checkpointed in (False, True):
        model = _model("transformer")
        network = Network(model, NetworkConfig(linear=2), Draws(1))
        network.apply()
        if is_checkpointed:
            model.enable_gradient_checkpointing()
        model.transformer.train()
        model.get_noise_prediction(*_inputs(references)).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert any(gradient.abs().max() > 0 for gradient in gradients[0] if gradient is not None)


def test_guidance_and_negative_prompts_play_no_part() -> None:
    assert SampleItem("a", "b", 32, 32, 0, 4.0, 2, 1.0).prompts(_model().card) == ("a",)
