"""A LoRA that works beside a model's weights and is not trained: on, until it is switched off for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.lora.update import Update


class FrozenLora:
    """Adds `B @ A` of some linear layers to what they put out.

    A hook and no merge: off is exactly the model without it, however often it was switched, and the weights may be
    quantized.
    """

    def __init__(self, updates: Mapping[str, Update]) -> None:
        self.updates = updates
        self.is_on = True

    def attach(self, model: nn.Module, *, source: str, dtype: torch.dtype, device: torch.device) -> None:
        """Put it on the layers of a loaded model, before any other LoRA.

        Args:
            model: has a linear layer of each update's name.
            source: what to call the LoRA in messages.
            dtype: of its weights.
            device: where they go.

        Raises:
            UserError: a layer has another shape.
        """
        for name, update in self.updates.items():
            layer: Any = model.get_submodule(name)
            wanted, found = (layer.out_features, layer.in_features), (update.b.shape[0], update.a.shape[1])
            if wanted != found:
                raise UserError(
                    f"{source}: {name} changes a weight of shape {found}, this model's is {wanted}: the file was made "
                    "for another model."
                )
            layer.register_forward_hook(self._hook(update.a.to(device, dtype), update.b.to(device, dtype)))

    @contextmanager
    def off(self) -> Iterator[None]:
        """For the length of a `with` block, the model is as it would be without."""
        before, self.is_on = self.is_on, False
        try:
            yield
        finally:
            self.is_on = before

    def _hook(self, a: Tensor, b: Tensor) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not self.is_on:
                return output
            return output + ((inputs[0].to(a.dtype) @ a.T) @ b.T).to(output.dtype)

        return add
