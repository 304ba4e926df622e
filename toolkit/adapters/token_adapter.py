"""An adapter whose image tokens the noisy image attends to; how the tokens are made is a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.adapters.adapter import AdapterInputs
from toolkit.adapters.attention import DecoupledAttention
from toolkit.adapters.files import check_header, check_state, copy_state
from toolkit.adapters.reading import Reading
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.memory.recompute import held_in_backward
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.models.condition import Condition
from toolkit.models.sites import AttentionSite
from toolkit.randomness import Draws


@dataclass(frozen=True)
class FileNames:
    """How a file names an adapter's weights.

    Attributes:
        projector: prefix of the weights that make the tokens.
        site: prefix of the weights of one attention layer; `{}` stands for its number.
        key, value, norm: the weights in it.
    """

    projector: str
    site: str
    key: str
    value: str
    norm: str


class TokenAdapter:
    """Decoupled attention to tokens that a projector makes of an image's features.

    Args:
        config: the job's adapter.
        projector: makes the module that maps features [B, M, E] to tokens [B, N, width], for a model's `hidden_size`;
            the module says its `width`.
        names: the names in its file.
        encoder: fingerprint of the encoder whose features it reads.
    """

    is_unconditional_off = True

    def __init__(self, config: AdapterConfig, projector: Callable[..., Any], *, names: FileNames, encoder: str) -> None:
        self.config = config
        self._make_projector = projector
        self.names = names
        self.encoder = encoder
        self._reading = Reading(is_unconditional_off=self.is_unconditional_off)
        self._tokens: Tensor | None = None

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """See Adapter.attach."""
        sites = chosen_sites(model, self.config)
        self.arch = model.arch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draws.number("adapter projector", self.config.type))
            self.projector = self._make_projector(hidden_size=sites[0].num_heads * sites[0].head_size).to(model.device)
        width = self.projector.width
        self.attention = DecoupledAttention(sites, self._reading, width=width, draws=draws, device=model.device)
        self._reading.attach(model)
        self.attention.attach(self._current_tokens)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See Adapter.named_parameters."""
        names = self.names
        found = [(f"{names.projector}.{name}", weight) for name, weight in self.projector.named_parameters()]
        for index, layer in enumerate(self.attention.layers):
            site = names.site.format(index)
            for inner, name in (("to_k_ip", names.key), ("to_v_ip", names.value), ("norm_k_ip", names.norm)):
                found.append((f"{site}.{name}.weight", getattr(layer, inner).weight))
        return found

    @contextmanager
    def reading(self, inputs: AdapterInputs) -> Iterator[None]:
        """See Adapter.reading."""
        if inputs.view is None:
            yield
            return
        tokens = self.projector(inputs.view.float())  # [B, N, width]
        with held_in_backward(partial(self._with_tokens, tokens)), self._reading.on(inputs):
            yield

    def adapted(self, condition: Condition, inputs: AdapterInputs) -> Condition:
        """See Adapter.adapted."""
        return condition

    def scaled(self, factor: float) -> AbstractContextManager[None]:
        """See Adapter.scaled."""
        return held_in_backward(partial(self._with_scale, factor))

    def state_dict(self) -> StateDict:
        """See Adapter.state_dict."""
        return {name: weight.detach() for name, weight in self.named_parameters()}

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        return {
            "adapter_type": self.config.type,
            "adapter_arch": self.arch,
            "adapter_encoder": self.encoder,
            "adapter_layer": self.config.layer,
            "adapter_blocks": self.config.blocks,
            "adapter_queries": "noisy image tokens, after the norm, before position embedding",
        }

    def load_state_dict(self, tensors: StateDict, metadata: Mapping[str, str], *, source: str) -> None:
        """See Adapter.load_state_dict."""
        own = dict(self.named_parameters())
        check_header(metadata, {key: self.metadata()[key] for key in _MUST_MATCH}, source=source)
        check_state(
            tensors, {name: tuple(weight.shape) for name, weight in own.items()}, source=source, what=self._what()
        )
        copy_state(own, tensors)

    def describe(self) -> str:
        """See Adapter.describe."""
        count = sum(weight.numel() for _, weight in self.named_parameters())
        return f"{self._what()} on {len(self.attention.layers)} attention layers: {count / 1e6:.2f} M weights"

    def _what(self) -> str:
        return f"{self.config.type} adapter"

    def _current_tokens(self) -> Tensor:
        assert self._tokens is not None, "the adapter is on"
        return self._tokens

    @contextmanager
    def _with_tokens(self, tokens: Tensor) -> Iterator[None]:
        before, self._tokens = self._tokens, tokens
        try:
            yield
        finally:
            self._tokens = before

    @contextmanager
    def _with_scale(self, factor: float) -> Iterator[None]:
        before = self.attention.scale
        self.attention.scale = before * factor
        try:
            yield
        finally:
            self.attention.scale = before


_MUST_MATCH = ("adapter_type", "adapter_arch", "adapter_encoder", "adapter_layer", "adapter_blocks")


def chosen_sites(model: BaseModel, config: AdapterConfig) -> Sequence[AttentionSite]:
    """The attention layers that carry an adapter.

    Raises:
        UserError: the model names none.
    """
    sites = [site for site in model.get_attention_sites() if site.is_double or config.blocks == "all"]
    if not sites:
        raise UserError(
            f"adapter.type: {model.arch} does not say where its attention is, so `{config.type}` cannot be trained on "
            "it. Use a LoRA."
        )
    return sites
