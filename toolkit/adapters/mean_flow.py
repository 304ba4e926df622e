"""Mean flow: gives the model the noise level at which a step ends, so that it can predict the step's mean velocity.

The end r of a step is embedded like its start: temb += W_2 SiLU(W_1 sinus(1000 r)). That one vector conditions every
block. W_2 starts at zero. A pipeline needs no change: its Euler steps are right for mean velocities.

Source: mean flow, Geng et al. 2025 (arXiv 2505.13447). The names in the file are those of FLUX.3's flow-map models.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional

from toolkit.adapters.adapter import Adapter, AdapterInputs
from toolkit.adapters.size import TIME_CHANNELS
from toolkit.adapters.step_ends import next_sigma
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.memory.recompute import BlockValue
from toolkit.models.base_model import BaseModel
from toolkit.randomness import Draws

_PREFIX = "target_timestep_embedder"
_PERIODS = 1000  # sigma 0..1 is embedded as 0..1000, as the base embeds it


class MeanFlowAdapter(Adapter):
    """`mean_flow`."""

    for_readers = frozenset({"adapter_adds_to"})

    def __init__(self, config: AdapterConfig, shape: ViewShape | None) -> None:
        super().__init__(config)
        self._inputs: BlockValue[AdapterInputs | None] = BlockValue(None)

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """See Adapter.attach."""
        ends = model.get_ends()
        if ends is None:
            raise UserError(
                f"adapter.type: {model.arch} does not name its time embedding, so `mean_flow` cannot be trained on "
                "it. For one number of steps, train a LoRA: `train.objective_params: {steps: 4}`."
            )
        self.arch = model.arch
        width: Any = ends.image_embedder.out_features
        self.embedder = TargetEmbedder(width, draws).to(model.device)
        ends.time_embedder.register_forward_hook(self._add)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See Adapter.named_parameters."""
        return [(f"{_PREFIX}.{name}", weight) for name, weight in self.embedder.named_parameters()]

    def reading(self, inputs: AdapterInputs) -> AbstractContextManager[None]:
        """See Adapter.reading. While a sampler draws, the end of the step is that of its scheduler."""
        return self._inputs.set(inputs)

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        return {
            "adapter_type": self.config.type,
            "adapter_arch": self.arch,
            "adapter_adds_to": "the time embedding, for the noise level at which a step ends",
        }

    def describe(self) -> str:
        """See Adapter.describe."""
        return f"mean_flow adapter on the time embedding: {self.num_weights / 1e6:.2f} M weights"

    def _add(self, module: nn.Module, arguments: tuple[Any, ...], embedding: Tensor) -> Tensor | None:
        """Add the embedded end of the step, [B], to the embedding of its start, [B, D]."""
        inputs, strength = self._inputs.value, self.strength.value
        if inputs is None or strength == 0:
            return None
        end = inputs.target_sigma
        if end is None:
            end = next_sigma()
        if end is None:
            return None
        start: Tensor = arguments[0]
        added = strength * self.embedder(end.to(embedding.device).expand(len(start)))  # [B, D]
        # Time 0 is that of tokens that are not being denoised: clean references, which have no step.
        added = torch.where((start > 0).unsqueeze(1), added, 0.0)
        return embedding + added.to(embedding.dtype)


class TargetEmbedder(nn.Module):
    """A second time embedder. Its last layer starts at zero."""

    def __init__(self, width: int, draws: Draws) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(TIME_CHANNELS, width, bias=False)
        self.linear_2 = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            first = draws.normal((width, TIME_CHANNELS), "adapter time embedder")
            self.linear_1.weight.copy_(first / TIME_CHANNELS**0.5)
            self.linear_2.weight.zero_()

    def forward(self, sigma: Tensor) -> Tensor:
        """Map noise levels [B], 0..1, to [B, D], fp32: autocast's bf16 would tell few of them apart."""
        with torch.autocast(sigma.device.type, enabled=False):
            waves = get_timestep_embedding(
                _PERIODS * sigma.float(), TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0
            )  # [B, 256]
            embedded: Tensor = self.linear_2(functional.silu(self.linear_1(waves)))
            return embedded
