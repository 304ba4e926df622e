"""The shapes of LoRA targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from toolkit.lora.update import LoraTarget, SizedTarget


def sized(targets: Sequence[LoraTarget], transformer: nn.Module) -> list[SizedTarget]:
    """Targets with the shapes of their layers in a transformer, which may be on the meta device."""
    found = []
    for target in targets:
        layers: list[Any] = [transformer.get_submodule(module) for module in target.modules]
        outputs = sum(layer.out_features for layer in layers)
        found.append(SizedTarget(target.name, target.modules, target.is_optional, layers[0].in_features, outputs))
    return found
