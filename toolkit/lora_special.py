"""LoRA on the layers that the model names: built with peft, saved under the names of the released model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from toolkit.config import NetworkConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel, LoraTarget, StateDict
from toolkit.randomness import Draws

ADAPTER = "default"


def choose_targets(model: BaseModel, config: NetworkConfig) -> list[LoraTarget]:
    """The layers that get LoRA, in model order.

    `transformer_only` keeps to the blocks; `only_if_contains` and `ignore_if_contains` are searched in
    `transformer.<name of the released model>`, as ai-toolkit does, and in our library's names of the same layers.

    Raises:
        UserError: nothing is left.
    """
    blocks = tuple(f"{name}." for name in model.get_transformer_block_names())
    only, ignore = config.network_kwargs.only_if_contains, config.network_kwargs.ignore_if_contains

    def wanted(target: LoraTarget) -> bool:
        names = [f"transformer.{name}" for name in (target.name, *target.modules)]
        if config.transformer_only and not target.name.startswith(blocks):
            return False
        if only and not any(part in name for part in only for name in names):
            return False
        return not any(part in name for part in ignore for name in names)

    known = model.get_lora_targets()
    chosen = [target for target in known if wanted(target)]
    if not chosen:
        raise UserError(
            "network.network_kwargs: the filters leave no layer to train. Names look like "
            f"`transformer.{known[0].name}` or `transformer.{known[0].modules[0]}`."
        )
    return chosen


class LoRASpecialNetwork:
    """The LoRA of one model. Its weights are fp32 whatever the model's dtype; at the start it changes nothing.

    Where the released model fuses several of our layers into one matrix, they share A: an update of rank r is then of
    rank r in the file, too.
    """

    def __init__(self, model: BaseModel, config: NetworkConfig, draws: Draws) -> None:
        self.model = model
        self.config = config
        self.draws = draws
        self.targets: list[LoraTarget] = []
        self._layers: dict[str, list[LoraLayer]] = {}

    def apply(self) -> None:
        """Put the LoRA into the loaded transformer.

        Raises:
            UserError: the filters of the job leave no layer.
        """
        transformer = self.model.transformer
        assert transformer is not None, "the transformer is loaded before its LoRA"
        self.targets = choose_targets(self.model, self.config)
        modules = [module for target in self.targets for module in target.modules]
        peft_config = LoraConfig(
            r=self.config.linear,
            lora_alpha=self.config.scale * self.config.linear,
            lora_dropout=self.config.dropout,
            target_modules=modules,
        )
        inject_adapter_in_model(peft_config, transformer, adapter_name=ADAPTER)
        self._layers = {
            target.name: [transformer.get_submodule(module) for module in target.modules] for target in self.targets
        }
        for target in self.targets:
            self._start(target)

    def parameters(self) -> list[nn.Parameter]:
        """Every trained weight once, in target order, A before B."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As `parameters`, with names that no two share."""
        for target in self.targets:
            layers = self._layers[target.name]
            yield f"{target.name}.lora_A", layers[0].lora_A[ADAPTER].weight
            for index, layer in enumerate(layers):
                yield f"{target.name}.lora_B.{index}", layer.lora_B[ADAPTER].weight

    def num_parameters(self) -> int:
        """Count of trained weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state_dict(self, dtype: torch.dtype) -> StateDict:
        """What a LoRA file holds, scale folded into B, with the file's keys."""
        state: StateDict = {}
        for target in self.targets:
            layers = self._layers[target.name]
            stacked = torch.cat([layer.lora_B[ADAPTER].weight.detach() for layer in layers], dim=0)
            state[f"{target.name}.lora_A.weight"] = layers[0].lora_A[ADAPTER].weight.detach().to(dtype)
            state[f"{target.name}.lora_B.weight"] = (stacked * self.config.scale).to(dtype)
        return self.model.convert_lora_weights_before_save(state)

    @torch.no_grad()
    def load_state_dict(self, file_state: StateDict, *, source: str) -> None:
        """Take over the weights of a LoRA file (the inverse of `state_dict`).

        Raises:
            UserError: the file is of another model, rank or choice of layers.
        """
        try:
            state = self.model.convert_lora_weights_before_load(file_state)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        expected = {f"{target.name}.lora_{part}.weight" for target in self.targets for part in "AB"}
        if state.keys() != expected:
            raise UserError(
                f"{source}: its layers are not those of this job ({len(state.keys() - expected)} more, "
                f"{len(expected - state.keys())} missing). Check network_kwargs and transformer_only."
            )
        for target in self.targets:
            layers = self._layers[target.name]
            a, b = state[f"{target.name}.lora_A.weight"], state[f"{target.name}.lora_B.weight"] / self.config.scale
            self._copy(layers[0].lora_A[ADAPTER].weight, a, source=source, name=target.name)
            sizes = [layer.lora_B[ADAPTER].weight.shape[0] for layer in layers]
            for layer, part in zip(layers, b.split(sizes, dim=0), strict=True):
                self._copy(layer.lora_B[ADAPTER].weight, part, source=source, name=target.name)

    @contextmanager
    def multiplied(self, factor: float) -> Iterator[None]:
        """For the length of a `with` block, the LoRA counts `factor` times."""
        layers = [layer for group in self._layers.values() for layer in group]
        before = [layer.scaling[ADAPTER] for layer in layers]
        try:
            for layer, scale in zip(layers, before, strict=True):
                layer.scaling[ADAPTER] = scale * factor
            yield
        finally:
            for layer, scale in zip(layers, before, strict=True):
                layer.scaling[ADAPTER] = scale

    def _start(self, target: LoraTarget) -> None:
        """A uniform as Kaiming (peft's and Hu et al.'s choice, arXiv 2106.09685), B zero; both fp32."""
        layers = self._layers[target.name]
        shared: Any = layers[0].lora_A[ADAPTER]
        bound = 1 / shared.in_features**0.5
        start = (self.draws.uniform((shared.out_features, shared.in_features), "lora", target.name) * 2 - 1) * bound
        shared.weight = nn.Parameter(start.to(self.model.device))
        for layer in layers:
            layer.lora_A[ADAPTER] = shared
            b = layer.lora_B[ADAPTER]
            b.weight = nn.Parameter(torch.zeros(b.weight.shape, device=self.model.device))

    @staticmethod
    def _copy(weight: Tensor, value: Tensor, *, source: str, name: str) -> None:
        if weight.shape != value.shape:
            raise UserError(
                f"{source}: {name} has shape {tuple(value.shape)}, this job needs {tuple(weight.shape)}. "
                "Set network.linear to the file's rank."
            )
        weight.copy_(value)
