"""An adapter whose image tokens the noisy image attends to; how the tokens are made is a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.adapters.adapter import Adapter, AdapterInputs
from toolkit.adapters.attention import DecoupledAttention, RotateByPosition
from toolkit.adapters.reading import Reading
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.memory.recompute import BlockValue
from toolkit.models.base_model import BaseModel
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


class TokenAdapter(Adapter):
    """Decoupled attention to tokens that a projector makes of an image's features.

    Args:
        config: the job's adapter.
        projector: makes the module that maps features [B, M, E] to tokens [B, N, width], for a model's `hidden_size`;
            the module says its `width`.
        names: the names in its file.
        encoder: fingerprint of the encoder whose features it reads.
    """

    is_unconditional_off = True
    for_readers = frozenset({"adapter_queries"})

    def __init__(self, config: AdapterConfig, projector: Callable[..., Any], *, names: FileNames, encoder: str) -> None:
        super().__init__(config)
        self._make_projector = projector
        self.names = names
        self.encoder = encoder
        self._reading = Reading(is_unconditional_off=self.is_unconditional_off)
        self._tokens: BlockValue[Mapping[torch.device, Tensor]] = BlockValue({})

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """See Adapter.attach."""
        sites = chosen_sites(model, self.config)
        self.arch = model.arch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draws.number("adapter projector", self.config.type))
            self.projector = self._make_projector(hidden_size=sites[0].num_heads * sites[0].head_size).to(model.device)
        width = self.projector.width
        devices = [model.device_of(site.output) for site in sites]
        self._devices = dict.fromkeys(devices)
        self.attention = DecoupledAttention(sites, self._reading, width=width, draws=draws, devices=devices)
        self._reading.attach(model)
        self.attention.attach(self._current, rotate=self._rotation(model))

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
        if inputs.view is None or self.strength.value == 0:
            yield
            return
        tokens = self.projector(inputs.view.float())  # [B, N, width]
        copies = [tokens.to(device) for device in self._devices]
        with self._tokens.set({copy.device: copy for copy in copies}), self._reading.on(inputs):
            yield

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        tokens = {} if self.config.tokens is None else {"adapter_tokens": str(self.config.tokens)}
        return tokens | {
            "adapter_type": self.config.type,
            "adapter_arch": self.arch,
            "adapter_encoder": self.encoder,
            "adapter_layer": self.config.layer,
            "adapter_blocks": self.config.blocks,
            "adapter_queries": "noisy image tokens, after the norm, before position embedding",
        }

    def describe(self) -> str:
        """See Adapter.describe."""
        layers = len(self.attention.layers)
        return f"{self.config.type} adapter on {layers} attention layers: {self.num_weights / 1e6:.2f} M weights"

    def _rotation(self, model: BaseModel) -> RotateByPosition | None:
        """Tells queries and keys where they are; None for keys without positions, which most adapters have."""
        return None

    def _current(self, device: torch.device) -> tuple[Tensor, float]:
        """The tokens of the current pass on a device, copied there once, and how much they count."""
        return self._tokens.value[device], self.strength.value


def chosen_sites(model: BaseModel, config: AdapterConfig) -> Sequence[AttentionSite]:
    """The attention layers that carry an adapter.

    Raises:
        UserError: the model names none.
    """
    sites = [site for site in model.get_attention_sites() if site.is_double or config.blocks == "all"]
    if not sites:
        raise UserError(
            f"adapter.type: {model.arch} does not name its attention layers, so `{config.type}` cannot be trained on "
            "it. Use a LoRA."
        )
    return sites
