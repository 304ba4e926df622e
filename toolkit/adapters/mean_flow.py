"""Mean flow: tells the model where a step ends, so that it can predict the mean velocity of the whole step.

The end r of a step is embedded like its start: temb += W_2 SiLU(W_1 sinus(1000 r)). That one vector conditions every
block. W_2 starts at zero. A pipeline needs no change: its Euler steps are right for mean velocities.

Source: mean flow, Geng et al. 2025 (arXiv 2505.13447). The names in the file are those of FLUX.3's flow-map models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional

from toolkit.adapters.adapter import AdapterInputs
from toolkit.adapters.files import check_header, check_state, copy_state
from toolkit.adapters.size import TIME_CHANNELS
from toolkit.adapters.step_ends import next_sigma
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.memory.recompute import held_in_backward
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.models.condition import Condition
from toolkit.randomness import Draws

_PREFIX = "target_timestep_embedder"
_PERIODS = 1000  # sigma 0..1 is embedded as 0..1000, as the base embeds it


class MeanFlowAdapter:
    """`mean_flow`."""

    is_unconditional_off = False

    def __init__(self, config: AdapterConfig, shape: ViewShape | None) -> None:
        self.config = config
        self._inputs: AdapterInputs | None = None
        self._factor = 1.0

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """See Adapter.attach."""
        ends = model.get_ends()
        if ends is None:
            raise UserError(
                f"adapter.type: {model.arch} does not say where time enters it, so `mean_flow` cannot be trained on "
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
        return held_in_backward(partial(self._with, "_inputs", inputs))

    def adapted(self, condition: Condition, inputs: AdapterInputs) -> Condition:
        """See Adapter.adapted."""
        return condition

    def scaled(self, factor: float) -> AbstractContextManager[None]:
        """See Adapter.scaled."""
        return held_in_backward(partial(self._with, "_factor", self._factor * factor))

    def state_dict(self) -> StateDict:
        """See Adapter.state_dict."""
        return {name: weight.detach() for name, weight in self.named_parameters()}

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        return {
            "adapter_type": self.config.type,
            "adapter_arch": self.arch,
            "adapter_adds_to": "the time embedding, for the noise level at which a step ends",
        }

    def load_state_dict(self, tensors: StateDict, metadata: Mapping[str, str], *, source: str) -> None:
        """See Adapter.load_state_dict."""
        own = dict(self.named_parameters())
        check_header(metadata, {key: self.metadata()[key] for key in ("adapter_type", "adapter_arch")}, source=source)
        shapes = {name: tuple(weight.shape) for name, weight in own.items()}
        check_state(tensors, shapes, source=source, what="mean_flow adapter")
        copy_state(own, tensors)

    def describe(self) -> str:
        """See Adapter.describe."""
        count = sum(weight.numel() for _, weight in self.named_parameters())
        return f"mean_flow adapter on the time embedding: {count / 1e6:.2f} M weights"

    def _add(self, module: nn.Module, arguments: tuple[Any, ...], embedding: Tensor) -> Tensor | None:
        """Add the embedded end of the step, [B], to the embedding of its start, [B, D]."""
        if self._inputs is None or self._factor == 0:
            return None
        end = self._inputs.target_sigma
        if end is None:
            end = next_sigma()
        if end is None:
            return None
        start: Tensor = arguments[0]
        added = self._factor * self.embedder(end.to(embedding.device).expand(len(start)))  # [B, D]
        # Time 0 is that of tokens that are not being denoised: clean references, which have no step.
        added = torch.where((start > 0).unsqueeze(1), added, 0.0)
        return embedding + added.to(embedding.dtype)

    @contextmanager
    def _with(self, attribute: str, value: Any) -> Iterator[None]:
        before = getattr(self, attribute)
        setattr(self, attribute, value)
        try:
            yield
        finally:
            setattr(self, attribute, before)


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
