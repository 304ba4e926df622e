"""Control LoRA: clean latents of control pictures are further input channels of the noisy image.

The embedder of image tokens gets columns W_c for the channels c of the pictures, which start at zero. The wide layer is
a sum, W [x; c] = W_own x + W_c c, so the second part is added to the output of the model's own layer, whatever number
format that has. References are embedded without it. Channels: those of an inpainting picture, its mask (1: repaint),
then those of each further picture. A LoRA beside the adapter learns to use them.

Source: Black Forest Labs' FLUX.1 Canny and Depth LoRAs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.adapters.adapter import Adapter, AdapterInputs
from toolkit.adapters.control.files import read_columns, tensors_of_lora, write_columns
from toolkit.adapters.reading import Reading
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.randomness import Draws

MASK_CELL_PX = 8
"""Side of the square of pixels that one value of a mask stands for."""


class ControlLoraAdapter(Adapter):
    """`control_lora`."""

    def __init__(self, config: AdapterConfig, shape: ViewShape | None = None) -> None:
        super().__init__(config)
        self._reading = Reading(is_unconditional_off=self.is_unconditional_off)

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """See Adapter.attach."""
        ends = model.get_ends()
        if ends is None:
            raise UserError(
                f"adapter.type: {model.arch} does not name the layer that embeds images, so `control_lora` cannot be "
                "trained on it. Use reference images if the model supports them."
            )
        self.model = model
        embedder: Any = ends.image_embedder
        num_mask = (model.get_bucket_divisibility() // MASK_CELL_PX) ** 2
        self.num_own = embedder.in_features
        num_new = self.config.num_control_images * self.num_own + self.config.has_inpainting_input * num_mask
        self.columns = nn.Parameter(torch.zeros(embedder.out_features, num_new, device=model.device))
        self._reading.attach(model)
        embedder.register_forward_hook(self._add)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See Adapter.named_parameters."""
        return [("control_columns", self.columns)]

    @contextmanager
    def reading(self, inputs: AdapterInputs) -> Iterator[None]:
        """See Adapter.reading."""
        if inputs.control is None or self.strength.value == 0:
            yield
            return
        with self._reading.on(inputs):
            yield

    def state_dict(self) -> StateDict:
        """See Adapter.state_dict."""
        return write_columns(self.columns.detach(), self.model)

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        return {
            "adapter_type": self.config.type,
            "adapter_arch": self.model.arch,
            "adapter_control_images": str(self.config.num_control_images),
            "adapter_inpainting_input": str(self.config.has_inpainting_input).lower(),
        }

    def lora_beside(self, tensors: Mapping[str, Tensor]) -> StateDict:
        """See Adapter.lora_beside."""
        return tensors_of_lora(tensors, self.model)

    def restore(self, tensors: StateDict, *, source: str) -> None:
        """See Adapter.restore. Also reads the columns alone, as ai-toolkit writes them."""
        columns = read_columns(tensors, self.model, like=self.columns, source=source)
        with torch.no_grad():
            self.columns.copy_(columns)

    def describe(self) -> str:
        """See Adapter.describe."""
        pictures = self.config.num_control_images
        what = f"{pictures} control picture{'s' if pictures > 1 else ''}"
        mask = ", of which one has a mask" if self.config.has_inpainting_input else ""
        return f"control_lora adapter for {what}{mask}: {self.num_weights / 1e6:.2f} M weights"

    def _add(self, module: nn.Module, arguments: tuple[Any, ...], embedded: Tensor) -> Tensor | None:
        inputs = self._reading.inputs
        if inputs is None or inputs.control is None:
            return None
        tokens = self.model.tokens_of(inputs.control.to(embedded.device, self.columns.dtype))  # [B, S, new channels]
        added = self.strength.value * functional.linear(tokens, self.columns)
        noisy = self._reading.noisy_tokens(embedded.shape[1], is_joint=False)
        return embedded + functional.pad(added.to(embedded.dtype), (0, 0, noisy.start, embedded.shape[1] - noisy.stop))
