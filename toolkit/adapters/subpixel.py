"""Subpixel: the transformer is trained on pixels; its first and last layer are replaced, and no VAE is loaded.

The network predicts the clean image, which is turned into the velocity v = (x_sigma - x_0) / max(sigma, 0.05): noise
fills all dimensions of a patch, and an image does not, so that a velocity cannot be learned in patches this wide.

Source: Li and He 2025, JiT (arXiv 2511.13720).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.adapters.adapter import Adapter, AdapterInputs
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.randomness import Draws

LEAST_SIGMA = 0.05


class SubpixelAdapter(Adapter):
    """`subpixel`. There is no model without it: at a strength of 0, every image is grey."""

    def __init__(self, config: AdapterConfig, shape: ViewShape | None = None) -> None:
        super().__init__(config)
        self._noisy: Tensor | None = None
        self._sigma: Tensor | None = None

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """See Adapter.attach."""
        ends = model.get_ends()
        if ends is None:
            raise UserError(
                f"adapter.type: {model.arch} does not name its first and last layer, which `subpixel` replaces."
            )
        first: Any = ends.image_embedder
        if any(weight.requires_grad for layer in (first, ends.output) for weight in layer.parameters()):
            raise UserError(
                "network: the LoRA is also on the first and the last layer, which `subpixel` replaces. Leave both out "
                "with `network_kwargs.ignore_if_contains`, or set `transformer_only: true`."
            )
        self.arch, transformer = model.arch, model.transformer
        self.token_px = model.get_bucket_divisibility()
        channels = 3 * self.token_px**2
        self.layers = {
            ends.image_embedder_name: _linear(channels, first.out_features, draws, model.device),
            ends.output_name: nn.Linear(first.out_features, channels, bias=False, device=model.device),
        }
        nn.init.zeros_(self.layers[ends.output_name].weight)  # the first images are grey, not noise
        for name, layer in self.layers.items():
            transformer.set_submodule(name, layer)
        transformer.register_to_config(in_channels=channels)  # pipelines draw noise of this many channels
        transformer.register_forward_pre_hook(self._take_input, with_kwargs=True)
        self.layers[ends.output_name].register_forward_hook(self._velocity)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See Adapter.named_parameters."""
        return [
            (f"transformer.{name}.{inner}", weight)
            for name, layer in self.layers.items()
            for inner, weight in layer.named_parameters()
        ]

    def reading(self, inputs: AdapterInputs) -> AbstractContextManager[None]:
        """See Adapter.reading. It reads nothing, and is never off."""
        return nullcontext()

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        return {
            "adapter_type": self.config.type,
            "adapter_arch": self.arch,
            "adapter_prediction": "clean image",
            "adapter_pixels_per_token_side": str(self.token_px),
        }

    def describe(self) -> str:
        """See Adapter.describe."""
        return f"subpixel adapter, a new first and last layer for pixels: {self.num_weights / 1e6:.2f} M weights"

    def _take_input(self, module: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        self._noisy, self._sigma = named["hidden_states"].float(), named["timestep"].float()

    def _velocity(self, module: nn.Module, arguments: tuple[Any, ...], clean: Tensor) -> Tensor:
        """The velocity of the predicted clean image, [B, S, C], in fp32."""
        assert self._noisy is not None and self._sigma is not None, (
            "the transformer runs its first layer before its last"
        )
        sigma = self._sigma.clamp(min=LEAST_SIGMA).view(-1, 1, 1)
        return (self._noisy - self.strength.value * clean.float()) / sigma


def _linear(inputs: int, outputs: int, draws: Draws, device: torch.device) -> nn.Linear:
    """A layer without bias, in fp32, with weights from N(0, 1 / inputs)."""
    layer = nn.Linear(inputs, outputs, bias=False, device=device)
    weight = draws.normal((outputs, inputs), "subpixel layer", inputs) / inputs**0.5
    layer.weight = nn.Parameter(weight.to(device))
    return layer
