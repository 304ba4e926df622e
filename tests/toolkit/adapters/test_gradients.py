"""Gradients of every adapter: those of finite differences, however the model is held in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.tiny import tiny_model
from toolkit.adapters.adapter_set import TARGET_SIGMA, AdapterSet, control_name, view_name
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.memory.activation_offload import ActivationOffload
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.randomness import Draws

SHAPE = ViewShape(num_tokens=5, width=6, encoder="random")
HELD: dict[str, dict[str, Any]] = {
    "recomputed": {},
    "streamed": {"layer_offloading": True, "layer_offloading_transformer_percent": 0.5},
    "inputs offloaded": {"activation_offloading": True},
    "both": {
        "layer_offloading": True,
        "layer_offloading_transformer_percent": 1.0,
        "activation_offloading": True,
    },
}


class Setup:
    """A model with an adapter whose weights are not zero, and a batch with a reference."""

    def __init__(self, model: BaseModel, kind: str, dtype: torch.dtype = torch.float32) -> None:
        self.model, self.dtype = model, dtype
        encoder = {"image_encoder_path": "unused"} if ADAPTERS[kind].reads == "view" else {}
        config = AdapterConfig.model_validate({"type": kind, **encoder})
        self.adapter: Any = config.choice.load()(config, SHAPE)
        self.adapter.attach(model, Draws(0))
        self.parameters = dict(self.adapter.named_parameters())
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters.values()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
        channels, width = model.transformer.config.in_channels, model.transformer.config.joint_attention_dim
        self.latents, self.reference = self._normal(2, channels, 3, 2, seed=1), self._normal(2, channels, 2, 2, seed=2)
        self.embeds = self._normal(2, 7, width, seed=3)
        inputs = {
            "view": {view_name(0): self._normal(2, SHAPE.num_tokens, SHAPE.width, seed=4)},
            "control": {control_name(0): self._normal(2, channels, 3, 2, seed=5)},
            "none": {},
        }
        self.extras = {**inputs[ADAPTERS[kind].reads], TARGET_SIGMA: torch.tensor([0.1, 0.4], dtype=dtype)}

    def loss(self, latents: Tensor | None = None) -> Tensor:
        condition = Condition(self.embeds, references=(self.reference,), extras=self.extras)
        with AdapterSet((self.adapter,)).reading(condition, num_noisy=6) as adapted:
            timestep = torch.tensor([300.0, 700.0], dtype=self.dtype)
            latents = self.latents if latents is None else latents
            return self.model.get_noise_prediction(latents, timestep, adapted).square().mean()

    def _normal(self, *shape: int, seed: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=self.dtype)


def two_blocks() -> BaseModel:
    """A random FLUX.2 with a block of each kind, whose references come last."""
    model = tiny_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.transformer = Flux2Transformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=12,
            timestep_guidance_channels=8,
            axes_dims_rope=(2, 2, 2, 2),
            guidance_embeds=False,
        ).requires_grad_(False)
    return model


@pytest.mark.parametrize("kind", ADAPTERS)
def test_in_fp64_each_weight_has_the_gradient_of_a_finite_difference(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # adapters compute in fp32 what must not be in bf16
    setup = Setup(two_blocks(), kind, torch.float64)
    setup.model.transformer.double()
    for name, parameter in setup.parameters.items():
        parameter.data = parameter.data.double()
        assert parameter.dtype == torch.float64, name
    gradients = torch.autograd.grad(setup.loss(), tuple(setup.parameters.values()))
    for (name, parameter), gradient in zip(setup.parameters.items(), gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        losses = []
        with torch.no_grad():
            for step in (1e-5, -1e-5):
                parameter.add_(step * direction)
                losses.append(setup.loss())
                parameter.sub_(step * direction)
        difference = (losses[0] - losses[1]) / 2e-5
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-5, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_forward_mode_gives_the_derivative_that_backward_mode_gives(kind: str) -> None:
    setup = Setup(two_blocks(), kind)
    latents = setup.latents.requires_grad_()
    direction = torch.randn(latents.shape, generator=torch.Generator().manual_seed(7))
    (gradient,) = torch.autograd.grad(setup.loss(latents), latents)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        slope = torch.func.jvp(setup.loss, (latents.detach(),), (direction,))[1]
    torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_however_the_model_is_held_the_gradients_are_the_same_bit_for_bit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = ActivationOffload.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "smallest_bytes", 0)
    whole = Setup(tiny_model("transformer"), kind)
    whole.model.prepare_backward(recomputes=False)
    whole.model.transformer.train()
    kept = _gradients(whole)
    for how, options in HELD.items():
        setup = Setup(tiny_model("transformer", **options), kind)
        setup.model.enable_gradient_checkpointing()
        setup.model.transformer.train()
        found = _gradients(setup)
        assert all(torch.equal(one, other) for one, other in zip(found, kept, strict=True)), how


def _gradients(setup: Setup) -> list[Tensor]:
    loss = setup.loss()
    loss.backward()
    found = [loss.detach(), *(parameter.grad for parameter in setup.parameters.values() if parameter.grad is not None)]
    assert len(found) == 1 + len(setup.parameters)
    return found
