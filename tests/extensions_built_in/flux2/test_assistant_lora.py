"""A training adapter on FLUX.2 klein."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from tests.drawing import write_lora
from tests.tiny import tiny_model
from toolkit.config import NetworkConfig, SampleItem
from toolkit.models.condition import Condition, SampleCondition
from toolkit.networks.network import Network
from toolkit.randomness import Draws

DRAWS = Draws(5)
EMBEDS = DRAWS.normal((1, 48, 192), "embeds")


def predict(model: Flux2TinyModel) -> Tensor:
    latents = DRAWS.normal((1, 64, 2, 2), "latents")
    with torch.no_grad():
        return model.get_noise_prediction(latents, torch.tensor([500.0]), Condition(EMBEDS))


def draw(model: Flux2TinyModel) -> Image.Image:
    item = SampleItem("a", "", 32, 32, 3, 1.0, 2, 1.0)
    condition = SampleCondition({"a": EMBEDS[0]})
    pipeline = model.get_generation_pipeline()
    return model.generate_single_image(pipeline, item, condition, torch.Generator().manual_seed(3))


def test_it_is_on_in_training_and_off_in_samples_and_in_no_file(tmp_path: Path) -> None:
    path = write_lora(tmp_path / "adapter.safetensors", seed=1)
    plain = tiny_model("transformer", "vae")
    assisted = tiny_model("transformer", "vae", assistant_lora_path=path)
    assert not torch.allclose(predict(plain), predict(assisted), atol=1e-2)
    assert draw(plain).tobytes() == draw(assisted).tobytes()
    assert assisted.count_assistant_weights() and not plain.count_assistant_weights()
    networks = []
    for model in (plain, assisted):
        network = Network(model, NetworkConfig.model_validate({"type": "lora", "linear": 2}), DRAWS)
        network.apply()
        networks.append(network.state_dict(torch.float32))
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(tensor, networks[1][name]) for name, tensor in networks[0].items())


@pytest.mark.parametrize("recomputes", [False, True])
def test_gradients_under_it_are_those_of_autograd(tmp_path: Path, recomputes: bool) -> None:
    """Blocks with a backward pass of their own must see that another LoRA is there."""
    path = write_lora(tmp_path / "adapter.safetensors", seed=1)
    gradients = []
    for is_own in (False, True):
        model = tiny_model("transformer", assistant_lora_path=path)
        network = Network(model, NetworkConfig.model_validate({"type": "lora", "linear": 2}), DRAWS)
        network.apply()
        if is_own:
            model.prepare_backward(recomputes=recomputes)
        model.transformer.train()
        latents = DRAWS.normal((1, 64, 2, 2), "latents")
        model.get_noise_prediction(latents, torch.tensor([500.0]), Condition(EMBEDS)).square().sum().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters() if name.endswith("lora_B")})
    plain, own = gradients
    for name, gradient in plain.items():
        other = own[name]
        assert gradient is not None and other is not None and gradient.abs().max() > 0, name
        assert torch.allclose(gradient, other, rtol=1e-3, atol=1e-4 * float(gradient.abs().max())), name
