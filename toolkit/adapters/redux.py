"""Redux: an image as rows that are appended to the prompt.

rows = r W_2 SiLU(W_1 f) for the features f of a vision encoder; r is the root mean square of the prompt's own rows,
which hold raw hidden states of a text encoder. Plain pipelines can use it: `prompt_embeds = cat([text, rows], dim=1)`.

Source: Black Forest Labs' FLUX.1 Redux, whose names the file has. Where the image is off, nothing is appended: rows of
zeros would still be keys.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from toolkit.adapters.adapter import Adapter, AdapterInputs
from toolkit.adapters.size import redux_inner
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.randomness import Draws


class ReduxAdapter(Adapter):
    """`redux`."""

    is_unconditional_off = True

    def __init__(self, config: AdapterConfig, shape: ViewShape) -> None:
        super().__init__(config)
        self.shape = shape

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """See Adapter.attach. Nothing is hooked: the rows are appended to the condition."""
        self.arch, ends = model.arch, model.get_ends()
        if ends is None:
            raise UserError(
                f"adapter.type: {model.arch} does not name its first and last layer, so `redux` cannot be trained on "
                "it."
            )
        self._append = ends.append_rows
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draws.number("adapter projector", self.config.type))
            self.up = nn.Linear(self.shape.width, redux_inner(self.shape.width)).to(model.device)
            self.down = nn.Linear(self.up.out_features, ends.prompt_width).to(model.device)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See Adapter.named_parameters."""
        parts = (("redux_up", self.up), ("redux_down", self.down))
        return [(f"{prefix}.{name}", weight) for prefix, part in parts for name, weight in part.named_parameters()]

    def reading(self, inputs: AdapterInputs) -> AbstractContextManager[None]:
        """See Adapter.reading. All that it does is done to the condition."""
        return nullcontext()

    def adapted(self, condition: Condition, inputs: AdapterInputs) -> Condition:
        """See Adapter.adapted: the prompt's rows, then the image's."""
        if inputs.view is None or self.strength.value == 0:
            return condition
        embeds = condition.prompt_embeds
        scale = self.strength.value * embeds.float().square().mean(dim=(1, 2), keepdim=True).sqrt()  # [B, 1, 1]
        rows = scale * self.down(functional.silu(self.up(inputs.view.float())))  # [B, M, D]
        return replace(condition, prompt_embeds=self._append(embeds, rows.to(embeds.dtype)))

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        return {
            "adapter_type": self.config.type,
            "adapter_arch": self.arch,
            "adapter_encoder": self.shape.encoder,
            "adapter_layer": self.config.layer,
        }

    def describe(self) -> str:
        """See Adapter.describe."""
        return f"redux adapter, {self.shape.num_tokens} rows per image: {self.num_weights / 1e6:.2f} M weights"
