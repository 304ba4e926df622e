"""ip, ip+ and vision_direct: what they add, against attention written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.tiny import tiny_model
from toolkit.adapters.adapter_set import AdapterSet, view_name
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.files import write_adapter
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig, NetworkConfig
from toolkit.errors import UserError
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.randomness import Draws

SHAPE = ViewShape(num_tokens=16, width=24, encoder="random")
TYPES = ("ip", "ip+", "vision_direct", "redux")
ATTENDING = TYPES[:3]


class Setup:
    """The tiny model with an adapter whose weights are not zero, and one batch."""

    def __init__(self, kind: str, *, with_lora: bool = False, checkpointing: bool = False, start: bool = False) -> None:
        self.model = tiny_model("transformer")
        if with_lora:
            network = Network(self.model, NetworkConfig.model_validate({"linear": 4}), Draws(0))
            network.apply()
            _shake(network.parameters(), 0.02)
        self.adapter: Any = adapter_of(kind)
        self.adapter.attach(self.model, Draws(0))
        self.parameters = dict(self.adapter.named_parameters())
        if not start:
            _shake(self.parameters.values(), 0.05)
        if checkpointing:
            self.model.enable_gradient_checkpointing()
            self.model.transformer.train()
        draw = torch.Generator().manual_seed(1)
        self.latents = torch.randn(2, 64, 3, 2, generator=draw)
        self.timestep = torch.tensor([300.0, 700.0])
        self.embeds = torch.randn(2, 48, 192, generator=draw)
        self.view = torch.randn(2, SHAPE.num_tokens, SHAPE.width, generator=draw)

    def predict(self, view: Tensor | None, references: tuple[Tensor, ...] = ()) -> Tensor:
        extras = {} if view is None else {view_name(0): view}
        condition = Condition(self.embeds, references=references, extras=extras)
        with AdapterSet((self.adapter,)).reading(condition, num_noisy=6) as adapted:
            return self.model.get_noise_prediction(self.latents, self.timestep, adapted)


def adapter_of(kind: str, **settings: Any) -> Any:
    config = AdapterConfig.model_validate({"type": kind, "image_encoder_path": "unused", **settings})
    return ADAPTERS[kind].load()(config, SHAPE)


def _shake(parameters: Any, size: float) -> None:
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.add_(size * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))


@pytest.mark.parametrize("kind", ATTENDING)
def test_at_the_start_an_adapter_changes_nothing(kind: str) -> None:
    setup = Setup(kind, start=True)
    with torch.no_grad():
        assert torch.equal(
            setup.predict(setup.view),
            tiny_model("transformer").get_noise_prediction(setup.latents, setup.timestep, Condition(setup.embeds)),
        )


@pytest.mark.parametrize("kind", TYPES)
def test_without_an_image_an_adapter_is_off(kind: str) -> None:
    setup = Setup(kind)
    with torch.no_grad():
        plain = tiny_model("transformer").get_noise_prediction(setup.latents, setup.timestep, Condition(setup.embeds))
        assert torch.equal(setup.predict(None), plain)
        assert not torch.allclose(setup.predict(setup.view), plain, atol=1e-3)
        with AdapterSet((setup.adapter,)).scaled(0.0):
            assert torch.equal(setup.predict(setup.view), plain)


@pytest.mark.parametrize("with_lora", [False, True], ids=["alone", "under a LoRA"])
@pytest.mark.parametrize("kind", ATTENDING)
def test_the_hooks_add_what_attention_written_out_gives(kind: str, with_lora: bool) -> None:
    setup = Setup(kind, with_lora=with_lora)
    plain = Setup(kind, with_lora=with_lora)
    tokens = setup.adapter.projector(setup.view)
    for layer in plain.adapter.attention.layers:
        _rewrite(layer, tokens, num_text=48, num_noisy=6)
    references = (torch.randn(2, 64, 2, 2, generator=torch.Generator().manual_seed(3)),)
    with torch.no_grad():
        for given in ((), references):
            assert (setup.predict(setup.view, given) - plain.predict(None, given)).abs().max() < 1e-5


def _rewrite(layer: Any, tokens: Tensor, *, num_text: int, num_noisy: int) -> None:
    """Add the attention to the tokens around the site's output layer, computed from the queries by hand."""
    site = layer.site
    seen: dict[str, Any] = {}

    def take(module: nn.Module, arguments: Any, query: Tensor) -> None:
        first = num_text if site.is_joint else 0
        seen["query"], seen["span"] = query[:, first : first + num_noisy], slice(first, first + num_noisy)

    def add(module: nn.Module, arguments: Any) -> Any:
        (hidden,) = arguments
        heads = (site.num_heads, site.head_size)
        key = functional.rms_norm(layer.to_k_ip(tokens).unflatten(2, heads), heads[1:], layer.norm_k_ip.weight, 1e-6)
        value = layer.to_v_ip(tokens).unflatten(2, heads)
        scores = torch.einsum("bshd,bnhd->bhsn", seen["query"], key) / site.head_size**0.5
        mixed = torch.einsum("bhsn,bnhd->bshd", scores.softmax(3), value).flatten(2)
        hidden = hidden.clone()
        hidden[:, seen["span"], : mixed.shape[2]] += mixed
        return (hidden,)

    site.query.register_forward_hook(take)
    site.output.register_forward_pre_hook(add)


@pytest.mark.parametrize("kind", TYPES)
def test_only_the_adapter_has_gradients_and_they_survive_recomputing(kind: str) -> None:
    found = []
    for checkpointing in (False, True):
        setup = Setup(kind, checkpointing=checkpointing)
        setup.predict(setup.view).square().mean().backward()
        assert all(p.grad is None for p in setup.model.transformer.parameters() if not _is_of(p, setup.parameters))
        found.append({name: parameter.grad for name, parameter in setup.parameters.items()})
    kept, recomputed = found
    for name, gradient in kept.items():
        assert gradient is not None and gradient.abs().max() > 0, name
        # Blocks that are recomputed have a backward pass of their own, which rounds otherwise.
        torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-4)


def _is_of(parameter: nn.Parameter, parameters: dict[str, nn.Parameter]) -> bool:
    return any(parameter is own for own in parameters.values())


@pytest.mark.parametrize("kind", TYPES)
def test_a_file_loads_back_and_every_wrong_one_is_refused(kind: str) -> None:
    setup, other = Setup(kind), Setup(kind, start=True)
    tensors, metadata = setup.adapter.state_dict(), setup.adapter.metadata()
    other.adapter.load_state_dict(tensors, metadata, source="file")
    assert all(torch.equal(value, tensors[name]) for name, value in other.adapter.state_dict().items())
    first = next(iter(tensors))
    wrong = (
        ({**tensors, "more": torch.zeros(1)}, metadata, "1 unknown: more"),
        ({name: value for name, value in tensors.items() if name != first}, metadata, f"1 missing: {first}"),
        ({**tensors, first: torch.zeros(3)}, metadata, f"1 of another shape: {first} is \\[3\\]"),
        (tensors, {**metadata, "adapter_encoder": "another"}, "encoder another"),
        (tensors, {**metadata, "adapter_arch": "flux2"}, "arch flux2"),
    )
    for content, header, what in wrong:
        with pytest.raises(UserError, match=what):
            other.adapter.load_state_dict(content, header, source="file")


def test_the_unconditional_pass_of_a_pipeline_is_drawn_without_the_image() -> None:
    setup = Setup("ip")
    adapters = AdapterSet((setup.adapter,))
    transformer = setup.model.transformer
    with torch.no_grad(), adapters.telling_passes_apart(transformer):
        with transformer.cache_context("cond"):
            on = setup.predict(setup.view)
        with transformer.cache_context("uncond"):
            off = setup.predict(setup.view)
    with torch.no_grad():
        assert torch.equal(off, setup.predict(None))
        assert torch.equal(on, setup.predict(setup.view))
    assert "cache_context" not in vars(transformer)


@pytest.mark.parametrize("kind", TYPES)
def test_the_plan_counts_the_weights_that_there_are(kind: str) -> None:
    setup = Setup(kind, start=True)
    counted = ADAPTERS[kind].count(setup.adapter.config, setup.model.card, SHAPE)
    assert counted == pytest.approx(sum(p.numel() for p in setup.parameters.values()), rel=0.01)


def test_a_file_that_was_written_wrongly_does_not_replace_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, path = Setup("vision_direct"), tmp_path / "job.safetensors"
    write_adapter(path, setup.adapter, dtype=torch.float32, metadata={})
    before = path.read_bytes()
    monkeypatch.setattr("toolkit.adapters.files.read_tensors", lambda _: {})
    with pytest.raises(UserError, match="does not contain what was written"):
        write_adapter(path, Setup("vision_direct", start=True).adapter, dtype=torch.float32, metadata={})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
