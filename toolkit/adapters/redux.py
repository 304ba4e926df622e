"""Redux: an image as rows that are appended to the prompt.

rows = r W_2 SiLU(W_1 f) for the features f of a vision encoder; r is the root mean square of the prompt's own rows,
which hold raw hidden states of a text encoder. Plain pipelines can use it: `prompt_embeds = cat([text, rows], dim=1)`.

Source: Black Forest Labs' FLUX.1 Redux, whose names the file has. Where the image is off, nothing is appended: rows of
zeros would still be keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from toolkit.adapters.adapter import AdapterInputs
from toolkit.adapters.files import check_header, check_state, copy_state
from toolkit.adapters.size import redux_inner
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.memory.recompute import held_in_backward
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.models.condition import Condition
from toolkit.randomness import Draws


class ReduxAdapter:
    """`redux`."""

    is_unconditional_off = True

    def __init__(self, config: AdapterConfig, shape: ViewShape) -> None:
        self.config = config
        self.shape = shape
        self._factor = 1.0

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """See Adapter.attach. Nothing is hooked: the rows are appended to the condition."""
        self.arch, ends = model.arch, model.get_ends()
        if ends is None:
            raise UserError(f"adapter.type: {model.arch} names no ends, so `redux` cannot be trained on it.")
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

    @contextmanager
    def reading(self, inputs: AdapterInputs) -> Iterator[None]:
        """See Adapter.reading."""
        yield

    def adapted(self, condition: Condition, inputs: AdapterInputs) -> Condition:
        """See Adapter.adapted: the prompt's rows, then those of the image."""
        if inputs.view is None or self._factor == 0:
            return condition
        embeds = condition.prompt_embeds
        scale = self._factor * embeds.float().square().mean(dim=(1, 2), keepdim=True).sqrt()  # [B, 1, 1]
        rows = scale * self.down(functional.silu(self.up(inputs.view.float())))  # [B, M, D]
        return replace(condition, prompt_embeds=self._append(embeds, rows.to(embeds.dtype)))

    def scaled(self, factor: float) -> AbstractContextManager[None]:
        """See Adapter.scaled."""
        return held_in_backward(partial(self._with_factor, factor))

    def state_dict(self) -> StateDict:
        """See Adapter.state_dict."""
        return {name: weight.detach() for name, weight in self.named_parameters()}

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        return {
            "adapter_type": self.config.type,
            "adapter_arch": self.arch,
            "adapter_encoder": self.shape.encoder,
            "adapter_layer": self.config.layer,
        }

    def load_state_dict(self, tensors: StateDict, metadata: Mapping[str, str], *, source: str) -> None:
        """See Adapter.load_state_dict."""
        own = dict(self.named_parameters())
        check_header(metadata, self.metadata(), source=source)
        shapes = {name: tuple(weight.shape) for name, weight in own.items()}
        check_state(tensors, shapes, source=source, what="redux adapter")
        copy_state(own, tensors)

    def describe(self) -> str:
        """See Adapter.describe."""
        count = sum(weight.numel() for _, weight in self.named_parameters())
        return f"redux adapter, {self.shape.num_tokens} rows per image: {count / 1e6:.2f} M weights"

    @contextmanager
    def _with_factor(self, factor: float) -> Iterator[None]:
        before = self._factor
        self._factor = before * factor
        try:
            yield
        finally:
            self._factor = before
