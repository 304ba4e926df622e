"""LoRA on the layers that the model lists: built with peft, saved under the names of the released model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from toolkit.config import NetworkConfig
from toolkit.errors import UserError
from toolkit.lora.update import LayerLocation, Update, swap_halves, updates_of
from toolkit.memory.recompute import held_in_backward
from toolkit.models.base_model import BaseModel, LoraTarget, StateDict
from toolkit.networks.fit import fit
from toolkit.networks.targets import choose_targets
from toolkit.randomness import Draws

ADAPTER = "default"


class LoRASpecialNetwork:
    """The LoRA of a model. Its weights are fp32 whatever the model's dtype; initially it changes nothing.

    If the released model fuses several of our layers into one matrix, those layers share A, so that an update of rank r
    also has rank r in the file.
    """

    def __init__(self, model: BaseModel, config: NetworkConfig, draws: Draws) -> None:
        self.model = model
        self.config = config
        self.draws = draws
        self.targets: list[LoraTarget] = []
        self._layers: dict[str, list[LoraLayer]] = {}

    def apply(self) -> None:
        """Add the LoRA to the loaded transformer.

        Raises:
            UserError: the job's filters leave no layer.
        """
        transformer = self.model.transformer
        assert transformer is not None, "the transformer is loaded before its LoRA"
        self.targets = choose_targets(self.model, self.config)
        modules = [module for target in self.targets for module in target.modules]
        peft_config = LoraConfig(
            r=self.config.linear,
            lora_alpha=self.config.scale * self.config.linear,
            target_modules=modules,
        )
        inject_adapter_in_model(peft_config, transformer, adapter_name=ADAPTER)
        self._layers = {
            target.name: [transformer.get_submodule(module) for module in target.modules] for target in self.targets
        }
        for target in self.targets:
            self._start(target)

    def parameters(self) -> list[nn.Parameter]:
        """Every trained weight exactly once, in target order, A before B."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Like `parameters`, with unique names."""
        for target in self.targets:
            layers = self._layers[target.name]
            yield f"{target.name}.lora_A", layers[0].lora_A[ADAPTER].weight
            for index, layer in enumerate(layers):
                yield f"{target.name}.lora_B.{index}", layer.lora_B[ADAPTER].weight

    def num_parameters(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state_dict(self, dtype: torch.dtype, file_format: str = "bfl") -> StateDict:
        """The content of a LoRA file, under the file's keys, with the scale folded into B.

        Raises:
            UserError: the format cannot represent one of the layers.
        """
        state: StateDict = {}
        whole = self.model.layout.whole
        for target in self.targets:
            layers = self._layers[target.name]
            stacked = self._in_released_order(
                target, torch.cat([whole(layer.lora_B[ADAPTER].weight) for layer in layers], dim=0)
            )
            state[f"{target.name}.lora_A.weight"] = whole(layers[0].lora_A[ADAPTER].weight).to(dtype)
            state[f"{target.name}.lora_B.weight"] = (stacked * self.config.scale).to(dtype)
        return self.model.convert_lora_weights_before_save(state, file_format)

    def updates(self) -> dict[str, Update]:
        """Layer name in the loaded model -> its current update; for comparison with files."""
        whole = self.model.layout.whole
        return {
            module: Update(
                whole(layer.lora_A[ADAPTER].weight).cpu(),
                whole(layer.lora_B[ADAPTER].weight).cpu() * layer.scaling[ADAPTER],
            )
            for target in self.targets
            for module, layer in zip(target.modules, self._layers[target.name], strict=True)
        }

    @torch.no_grad()
    def load_state_dict(self, file_state: StateDict, *, source: str, metadata: Mapping[str, str] | None = None) -> None:
        """Load the weights of a LoRA file in any format that `toolkit.lora.parse` knows.

        Raises:
            UserError: the file is for another model, rank or choice of layers.
        """
        try:
            state = self.model.convert_lora_weights_before_load(file_state, metadata)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        updates = updates_of(state)
        names = {target.name for target in self.targets}
        if updates.keys() != names:
            more, missing = sorted(updates.keys() - names), sorted(names - updates.keys())
            shown = "; ".join(
                f"{len(some)} {what}, such as {some[0]}"
                for what, some in (("extra", more), ("missing", missing))
                if some
            )
            raise UserError(
                f"{source}: its layers differ from this job's ({shown}). Check network_kwargs and transformer_only."
            )
        for target in self.targets:
            self._check_shape(target, updates[target.name], source=source)
        fitted = fit(updates, self.config.linear, source=source)
        for target in self.targets:
            update, layers = fitted[target.name], self._layers[target.name]
            # Rows that the file does not fill keep their random values: with A and B both zero they would never learn.
            layers[0].lora_A[ADAPTER].weight[: update.rank] = update.a.to(layers[0].lora_A[ADAPTER].weight.device)
            sizes = [layer.lora_B[ADAPTER].weight.shape[0] for layer in layers]
            b = self._in_released_order(target, update.b / self.config.scale)
            for layer, part in zip(layers, b.split(sizes, dim=0), strict=True):
                layer.lora_B[ADAPTER].weight.zero_()[:, : update.rank] = part.to(layer.lora_B[ADAPTER].weight.device)

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """For the length of a `with` block, the LoRA counts `factor` times; so it does in its backward pass."""
        return held_in_backward(partial(self._scaled, factor))

    @contextmanager
    def _scaled(self, factor: float) -> Iterator[None]:
        layers = [layer for group in self._layers.values() for layer in group]
        before = [layer.scaling[ADAPTER] for layer in layers]
        try:
            for layer, scale in zip(layers, before, strict=True):
                layer.scaling[ADAPTER] = scale * factor
            yield
        finally:
            for layer, scale in zip(layers, before, strict=True):
                layer.scaling[ADAPTER] = scale

    def _in_released_order(self, target: LoraTarget, b: Tensor) -> Tensor:
        """Reorder the rows of a target's B from the loaded model's order to the released model's, or back."""
        where = self.model.locate_layer(target.modules[0])
        return swap_halves(b) if isinstance(where, LayerLocation) and where.is_swapped else b

    def _start(self, target: LoraTarget) -> None:
        """Initialise A with Kaiming uniform (as peft and Hu et al., arXiv 2106.09685) and B with zeros, in fp32."""
        layers = self._layers[target.name]
        shared: Any = layers[0].lora_A[ADAPTER]
        if self.config.dropout:
            shared = _DroppedLinear(shared.in_features, shared.out_features, self.config.dropout)
        bound, device = 1 / shared.in_features**0.5, self.model.device_of(layers[0])
        start = (self.draws.uniform((shared.out_features, shared.in_features), "lora", target.name) * 2 - 1) * bound
        shared.weight = nn.Parameter(start.to(device))
        for layer in layers:
            layer.lora_A[ADAPTER] = shared
            b = layer.lora_B[ADAPTER]
            b.weight = nn.Parameter(torch.zeros(b.weight.shape, device=device))

    def _check_shape(self, target: LoraTarget, update: Update, *, source: str) -> None:
        layers = self._layers[target.name]
        needed = (sum(layer.lora_B[ADAPTER].weight.shape[0] for layer in layers), layers[0].lora_A[ADAPTER].in_features)
        found = (update.b.shape[0], update.a.shape[1])
        if needed != found:
            raise UserError(
                f"{source}: {target.name} is for a weight of shape {found}, but this model's has shape {needed}: "
                "the file was made for another model."
            )


class _DroppedLinear(nn.Linear):
    """A with dropout on its output, the activation of rank r; peft would apply dropout to its input."""

    def __init__(self, in_features: int, out_features: int, dropout: float) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.dropout = dropout

    def forward(self, values: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        return nn.functional.dropout(super().forward(values), self.dropout, self.training)
