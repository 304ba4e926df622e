"""A LoRA that is active but not trained, and whose strength can be changed temporarily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from toolkit.errors import UserError
from toolkit.lora.update import LayerLocation, Update
from toolkit.models.base_model import BaseModel


class Attached:
    """Something that hooks add to the output of layers, with a strength that can be changed temporarily."""

    def __init__(self) -> None:
        self.strength = 1.0
        self._handles: list[RemovableHandle] = []

    def detach(self) -> None:
        """Take it off the layers again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def scaled(self, factor: float) -> Iterator[None]:
        """Within the `with` block, multiply the strength by a factor."""
        before, self.strength = self.strength, self.strength * factor
        try:
            yield
        finally:
            self.strength = before


class FrozenLora(Attached):
    """Adds the product with `B @ A` to the output of some linear layers.

    Uses hooks instead of merging: switched off, the model is exactly what it would be without the LoRA, however often
    it was switched, and the model's weights may be quantized.
    """

    def __init__(self, updates: Mapping[str, Update]) -> None:
        super().__init__()
        self.updates = updates

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
            hook = self._hook(update.a.to(device, dtype), update.b.to(device, dtype))
            self._handles.append(layer.register_forward_hook(hook))

    def off(self) -> AbstractContextManager[None]:
        """Switch the LoRA off within the `with` block."""
        return self.scaled(0.0)

    def _hook(self, a: Tensor, b: Tensor) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not self.strength:
                return output
            return output + self.strength * ((inputs[0].to(a.dtype) @ a.T) @ b.T).to(output.dtype)

        return add


def by_layer(model: BaseModel, updates: Mapping[str, Update]) -> dict[str, Update]:
    """Updates by module name in the loaded transformer, where one target may be several layers.

    Args:
        model: a model whose transformer is loaded.
        updates: updates by target.
    """
    found: dict[str, Update] = {}
    for target in model.get_lora_targets():
        for module in target.modules if target.name in updates else ():
            where = model.locate_layer(module)
            assert isinstance(where, LayerLocation), f"the model does not know its own layer {module}"
            whole = updates[target.name]
            found[module] = Update(whole.a, where.rows(whole.b))
    return found
