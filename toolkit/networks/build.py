"""Builds the part of a network at each layer, with or without the model's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from toolkit.config import NetworkConfig
from toolkit.lora.update import SizedTarget
from toolkit.networks.choices import NETWORKS
from toolkit.networks.part import Part, Start
from toolkit.networks.settings import Shape
from toolkit.randomness import Draws


def shape_of(target: SizedTarget) -> Shape:
    """The shape of a target's weight."""
    return Shape(target.inputs, target.outputs, len(target.modules))


def build_part(target: SizedTarget, config: NetworkConfig, draws: Draws) -> Part:
    """The part at a target, with its start drawn."""
    kind, settings = config.at(target)
    # LoRA's starts are drawn as they were before there were other kinds.
    start: Start = partial(_drawn, draws, kind, target.name)
    part: Part = NETWORKS[kind].load()(shape_of(target), settings, start)
    return part


def empty_parts(targets: Sequence[SizedTarget], config: NetworkConfig) -> Mapping[str, Part]:
    """The parts at some targets, by the target's name, with shapes but without memory."""
    parts: dict[str, Part] = {}
    with torch.device("meta"):
        for target in targets:
            kind, settings = config.at(target)
            parts[target.name] = NETWORKS[kind].load()(shape_of(target), settings, _empty)
    return parts


def num_weights(target: SizedTarget, config: NetworkConfig) -> int:
    """Number of weights trained at a target."""
    kind, settings = config.at(target)
    return NETWORKS[kind].count(shape_of(target), settings)


def _drawn(draws: Draws, kind: str, name: str, shape: tuple[int, ...], role: str) -> Tensor:
    return draws.uniform(shape, kind, *((name,) if kind == "lora" else (name, role)))


def _empty(shape: tuple[int, ...], role: str) -> Tensor:
    return torch.empty(shape)
