"""A LoRA that is active but not trained, and can be switched off temporarily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.lora.update import Update


class FrozenLora:
    """Adds the product with `B @ A` to the output of some linear layers.

    Uses hooks instead of merging: switched off, the model is exactly what it would be without the LoRA, however often
    it was switched, and the model's weights may be quantized.
    """

    def __init__(self, updates: Mapping[str, Update]) -> None:
        self.updates = updates
        self.is_on = True

    def attach(
        self,
        model: nn.Module,
        *,
        source: str,
        dtype: torch.dtype,
        device_of: Callable[[nn.Module], torch.device],
    ) -> None:
        """Attach the LoRA to the layers of a loaded model, before any other LoRA.

        Args:
            model: model with a linear layer for the name of each update.
            source: name of the LoRA in messages.
            dtype: dtype of the LoRA's weights.
            device_of: the device that a layer of the model computes on.

        Raises:
            UserError: the shape of a layer does not match.
        """
        for name, update in self.updates.items():
            layer: Any = model.get_submodule(name)
            wanted, found = (layer.out_features, layer.in_features), (update.b.shape[0], update.a.shape[1])
            if wanted != found:
                raise UserError(
                    f"{source}: {name} is for a weight of shape {found}, but this model's has shape {wanted}: the file "
                    "was made for another model."
                )
            device = device_of(layer)
            layer.register_forward_hook(self._hook(update.a.to(device, dtype), update.b.to(device, dtype)))

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch the LoRA off within the `with` block."""
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
