"""The mean flow adapter: nothing at the start, then the end of each step counts, wherever a pipeline gets it from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from tests.tiny import tiny_model
from toolkit.adapters.adapter_set import TARGET_SIGMA, AdapterSet
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.step_ends import following, next_sigma
from toolkit.config import AdapterConfig, NetworkConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.randomness import Draws

DRAW = torch.Generator().manual_seed(1)
LATENTS = torch.randn(2, 64, 3, 2, generator=DRAW)
TIMESTEP = torch.tensor([300.0, 700.0])
EMBEDS = torch.randn(2, 48, 192, generator=DRAW)
END = torch.tensor([0.1, 0.2])


class Setup:
    """The tiny model with a mean flow adapter, which is trained a little unless `start`."""

    def __init__(self, *, start: bool = False, checkpointing: bool = False, lora: bool = False, **model: Any) -> None:
        self.model: BaseModel = tiny_model("transformer", **model)
        if lora:
            Network(
                self.model, NetworkConfig.model_validate({"linear": 4, "transformer_only": False}), Draws(0)
            ).apply()
        self.adapter: Any = ADAPTERS["mean_flow"].load()(AdapterConfig.model_validate({"type": "mean_flow"}), None)
        self.adapter.attach(self.model, Draws(0))
        self.parameters = dict(self.adapter.named_parameters())
        if not start:
            with torch.no_grad():
                last = self.adapter.embedder.linear_2.weight
                last.copy_(torch.randn(last.shape, generator=torch.Generator().manual_seed(2)) / 20)
        if checkpointing:
            self.model.enable_gradient_checkpointing()
            self.model.transformer.train()
        self.adapters = AdapterSet((self.adapter,))

    def predict(self, end: Tensor | None = None) -> Tensor:
        condition = Condition(EMBEDS, extras={} if end is None else {TARGET_SIGMA: end})
        with self.adapters.reading(condition, num_noisy=6) as condition:
            return self.model.get_noise_prediction(LATENTS, TIMESTEP, condition)


def base() -> Tensor:
    return tiny_model("transformer").get_noise_prediction(LATENTS, TIMESTEP, Condition(EMBEDS))


@torch.no_grad()
def test_at_the_start_and_when_off_the_model_predicts_as_before() -> None:
    assert torch.equal(Setup(start=True).predict(END), base())
    assert torch.equal(Setup(start=True, lora=True).predict(END), base())
    setup = Setup()
    assert torch.equal(setup.predict(), base())
    assert not torch.allclose(setup.predict(END), base(), atol=1e-3)
    with setup.adapters.scaled(0.0):
        assert torch.equal(setup.predict(END), base())


@torch.no_grad()
def test_each_sample_has_an_end_of_its_own() -> None:
    setup = Setup()
    one, other = setup.predict(END), setup.predict(torch.tensor([0.1, 0.5]))
    assert torch.equal(one[0], other[0])
    assert not torch.allclose(one[1], other[1], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("qtype", ["qfloat8", "uint4"])
def test_it_works_on_a_quantized_model(qtype: str) -> None:
    start, setup = Setup(start=True, quantize=True, qtype=qtype), Setup(quantize=True, qtype=qtype)
    assert torch.equal(start.predict(END), start.predict())
    assert not torch.allclose(setup.predict(END), start.predict(), atol=1e-3)


def test_only_the_adapter_has_gradients_and_they_survive_recomputing() -> None:
    found = []
    for checkpointing in (False, True):
        setup = Setup(checkpointing=checkpointing)
        setup.predict(END).square().mean().backward()
        own = {id(parameter) for parameter in setup.parameters.values()}
        assert all(p.grad is None for p in setup.model.transformer.parameters() if id(p) not in own)
        found.append([parameter.grad for parameter in setup.parameters.values()])
    for kept, recomputed in zip(*found, strict=True):
        assert kept is not None and kept.abs().max() > 0
        torch.testing.assert_close(recomputed, kept, atol=1e-7, rtol=1e-5)


def test_a_file_has_the_names_of_released_flow_maps_and_wrong_ones_are_refused() -> None:
    setup, other = Setup(), Setup(start=True)
    tensors, metadata = setup.adapter.state_dict(), setup.adapter.metadata()
    first, last = "target_timestep_embedder.linear_1.weight", "target_timestep_embedder.linear_2.weight"
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {first: (192, 256), last: (192, 192)}
    other.adapter.load_state_dict(tensors, metadata, source="file")
    assert all(torch.equal(value, tensors[name]) for name, value in other.adapter.state_dict().items())
    wrong = (
        ({**tensors, "more": torch.zeros(1)}, metadata, "1 unknown: more"),
        ({first: tensors[first]}, metadata, f"1 missing: {last}"),
        ({**tensors, last: torch.zeros(3)}, metadata, f"1 of another shape: {last} is \\[3\\]"),
        (tensors, {**metadata, "adapter_arch": "flux2"}, "arch flux2"),
        (tensors, {**metadata, "adapter_type": "ip"}, "type ip"),
    )
    for content, header, what in wrong:
        with pytest.raises(UserError, match=what):
            other.adapter.load_state_dict(content, header, source="file")


def test_a_model_that_does_not_say_where_time_enters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("transformer")
    monkeypatch.setattr(model, "get_ends", lambda: None)
    adapter = ADAPTERS["mean_flow"].load()(AdapterConfig.model_validate({"type": "mean_flow"}), None)
    with pytest.raises(UserError, match="does not name its time"):
        adapter.attach(model, Draws(0))


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_a_step_ends_where_the_next_one_starts(num_steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(num_steps)
    sample = torch.zeros(1, 2, 4)
    assert next_sigma() is None
    with following(SimpleNamespace(scheduler=scheduler)):
        for index, timestep in enumerate(scheduler.timesteps):
            assert next_sigma() == scheduler.sigmas[index + 1]
            assert next_sigma() == scheduler.sigmas[index + 1], "the second pass of a guided step"
            sample = scheduler.step(sample, timestep, sample, return_dict=False)[0]
        scheduler.set_timesteps(num_steps)  # the next picture
        assert next_sigma() == scheduler.sigmas[1]


@torch.no_grad()
def test_a_pipeline_samples_with_the_ends_of_its_own_steps() -> None:
    """Two seconds: three pictures in three steps, with guidance."""
    setup = Setup()
    setup.model.load("vae")
    pipeline = setup.model.get_generation_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    seen: list[Tensor] = []
    setup.adapter.embedder.register_forward_hook(lambda _, arguments, __: seen.append(arguments[0]))

    def draw() -> Tensor:
        embeds = {"prompt_embeds": EMBEDS[:1], "negative_prompt_embeds": EMBEDS[1:]}
        generator = torch.Generator().manual_seed(0)
        settings = {"height": 32, "width": 32, "num_inference_steps": 3, "guidance_scale": 2.0}
        latents: Tensor = pipeline(**embeds, **settings, generator=generator, output_type="latent").images
        return latents

    off = draw()
    with setup.adapters.following(pipeline), setup.adapters.reading(Condition(EMBEDS), num_noisy=4):
        on = draw()
    assert not torch.allclose(on, off, atol=1e-3)
    ends = setup.model.get_sampling_sigmas(3, 4)[1:].repeat_interleave(2)
    assert torch.allclose(torch.cat(seen), ends)
    assert torch.equal(draw(), off)


def test_the_plan_counts_the_weights_that_there_are() -> None:
    setup = Setup(start=True)
    counted = ADAPTERS["mean_flow"].count(setup.adapter.config, setup.model.card, None)
    assert counted == sum(parameter.numel() for parameter in setup.parameters.values())
