"""subpixel: pixels in place of latents, and a predicted image in place of a velocity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image
from torch import Tensor

from tests.tiny import StopAfter, losses, run_job, tiny_model, write_job
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.adapters.subpixel import SubpixelAdapter
from toolkit.config import AdapterConfig, NetworkConfig, SampleItem
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition, SampleCondition
from toolkit.models.pixel_vae import PixelVae
from toolkit.networks.lora import LoRASpecialNetwork
from toolkit.randomness import Draws
from toolkit.weights.tensor_files import read_tensors

CPU = torch.device("cpu")


def setup(**settings: object) -> tuple[SubpixelAdapter, Any]:
    model = tiny_model("transformer")
    model.vae = PixelVae(CPU)
    adapter = SubpixelAdapter(AdapterConfig.model_validate({"type": "subpixel", **settings}))
    adapter.attach(model, Draws(0))
    adapter.layers["proj_out"].weight.data += 0.05 * normal(768, 192, seed=4)
    return adapter, model


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_pixels_become_latents_and_come_back_without_loss() -> None:
    model = tiny_model()
    model.vae = PixelVae(CPU)
    pixels = normal(2, 3, 32, 48, seed=0).clamp(-1, 1)
    latents = model.encode_images(pixels)
    assert latents.shape == (2, 768, 2, 3), "16 x 16 pixels a token, as with the VAE"
    assert (model.decode_latents(latents) - pixels).abs().max() < 1e-5
    patch = (pixels[0, :, 16:32, 32:48] + 0.123) * 1.8
    assert torch.allclose(latents[0, :, 1, 2].sort().values, patch.flatten().sort().values, atol=1e-5)


def test_the_prediction_is_the_velocity_of_the_image_that_the_last_layer_gives() -> None:
    adapter, model = setup()
    noisy, sigma = normal(2, 768, 2, 2, seed=1), torch.tensor([0.01, 0.5])
    seen: list[Tensor] = []
    hooks = adapter.layers["proj_out"]._forward_hooks
    (own,) = hooks.values()

    def look(module: torch.nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output)
        return own(module, arguments, output)

    hooks[next(iter(hooks))] = look
    with torch.no_grad():
        velocity = model.get_noise_prediction(noisy, 1000 * sigma, Condition(normal(2, 48, 192, seed=2)))
    clean = seen[0].transpose(1, 2).reshape(noisy.shape)
    for index, divisor in enumerate((0.05, 0.5)):
        assert torch.allclose(velocity[index], (noisy[index] - clean[index]) / divisor, atol=1e-5)


def test_only_the_new_layers_have_gradients_and_recomputing_keeps_them() -> None:
    found = []
    for checkpointing in (False, True):
        adapter, model = setup()
        if checkpointing:
            model.enable_gradient_checkpointing()
            model.transformer.train()
        condition = Condition(normal(2, 48, 192, seed=2))
        model.get_noise_prediction(
            normal(2, 768, 2, 2, seed=1), torch.tensor([300.0, 700.0]), condition
        ).mean().backward()
        own = {parameter for _, parameter in adapter.named_parameters()}
        assert {p for p in model.transformer.parameters() if p.grad is not None} == own
        found.append([parameter.grad for _, parameter in adapter.named_parameters()])
    for kept, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(kept, recomputed, atol=1e-7, rtol=1e-5)


def test_a_lora_on_the_layers_that_it_replaces_is_refused() -> None:
    model = tiny_model("transformer")
    LoRASpecialNetwork(model, NetworkConfig.model_validate({"linear": 2, "transformer_only": False}), Draws(0)).apply()
    with pytest.raises(UserError, match="Leave both out"):
        SubpixelAdapter(AdapterConfig.model_validate({"type": "subpixel"})).attach(model, Draws(0))


def test_the_plan_counts_the_weights_that_there_are() -> None:
    adapter, model = setup()
    count = adapter.config.choice.count(adapter.config, model.card, None)
    assert count == sum(parameter.numel() for _, parameter in adapter.named_parameters())


def test_diffusers_pipeline_draws_pixels_without_a_vae() -> None:
    adapter, model = setup()
    item = SampleItem("a", "", 32, 48, 0, 3.0, 2, 1.0)
    condition = SampleCondition({text: normal(48, 192, seed=3) for text in ("a", "")})
    with torch.no_grad(), AdapterSet((adapter,)).scaled(1.0):
        pipeline = model.get_generation_pipeline()
        assert isinstance(pipeline, Flux2KleinPipeline)
        image = model.generate_single_image(pipeline, item, condition, torch.Generator().manual_seed(0))
    assert image.size == (32, 48)


def test_files_of_something_else_are_refused() -> None:
    adapter, _ = setup()
    tensors, metadata = adapter.state_dict(), adapter.metadata()
    assert list(tensors) == ["transformer.x_embedder.weight", "transformer.proj_out.weight"]
    wrong: tuple[Any, ...] = (
        ({**tensors, "more": torch.zeros(1)}, {}, "1 unknown: more"),
        ({"transformer.x_embedder.weight": torch.zeros(192, 768)}, {}, "1 missing: transformer.proj_out.weight"),
        ({**tensors, "transformer.x_embedder.weight": torch.zeros(192, 3072)}, {}, r"is \[192, 3072\]"),
        (tensors, {**metadata, "adapter_arch": "flux2"}, "arch flux2"),
    )
    for content, header, what in wrong:
        with pytest.raises(UserError, match=what):
            adapter.load_state_dict(content, header, source="file")


def test_a_stopped_and_resumed_run_repeats_every_loss_and_loads_no_vae(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "adapter": {"type": "subpixel", "lora_config": {"type": "lora", "linear": 2}},
        "network": None,
        "train": {"disable_sampling": False, "skip_first_sample": True},
        "sample": {"samples": [{"prompt": "a"}], "format": "png"},
    }
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, parts = (write_job(tmp_path / name, **given) for name in ("whole", "parts"))
    load_recipe, loaded = BaseModel.load_recipe, []

    def watched(self: BaseModel, component: Any, *arguments: Any, **named: Any) -> Any:
        loaded.append(component)
        return load_recipe(self, component, *arguments, **named)

    monkeypatch.setattr(BaseModel, "load_recipe", watched)
    assert run_job(whole).status == "done"
    assert loaded == ["text_encoder", "transformer"]
    assert run_job(parts, StopAfter(6 + 4 + 4)).status == "interrupted"
    outputs = [path.parent / "output" / "job" for path in (whole, parts)]
    assert 0 < len(losses(outputs[1])) < 6
    assert run_job(parts).status == "done"
    assert losses(outputs[0]) == losses(outputs[1])
    one, other = (read_tensors(output / "job_adapter.safetensors") for output in outputs)
    assert all(torch.equal(one[key], other[key]) for key in one)
    (drawn,) = (outputs[0] / "samples").glob("*__000000006_0.png")
    with Image.open(drawn) as image:
        assert image.size == (32, 32)
