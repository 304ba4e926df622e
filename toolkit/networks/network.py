"""The network of a job: a part of some kind on each layer that the job chooses, attached by hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from toolkit.config import NetworkConfig
from toolkit.lora.update import SizedTarget, Update
from toolkit.memory.recompute import BlockValue
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.networks.build import build_part
from toolkit.networks.files import NetworkFile, format_of, is_swapped
from toolkit.networks.part import Part, Site
from toolkit.networks.targets import choose_targets
from toolkit.randomness import Draws

NAME = "network"  # of a part, in the first of its layers


class Strength(Protocol):
    """How much a network counts, now."""

    @property
    def value(self) -> float:
        """A factor of what it changes."""
        ...


@dataclass(frozen=True, eq=False)
class StrengthAt:
    """How much the network counts at one of its targets, now."""

    network: BlockValue[float]
    off: BlockValue[frozenset[str]]
    target: str

    @property
    def value(self) -> float:
        """See Strength."""
        return 0.0 if self.target in self.off.value else self.network.value


class LayerHook:
    """What a network does to the output of one layer.

    Attributes:
        part: the trained part at this layer.
        site: the layer.
        strength: current strength of the network.
    """

    def __init__(self, part: Part, site: Site, strength: Strength) -> None:
        self.part = part
        self.site = site
        self.strength = strength

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Run as a forward hook."""
        strength, dropped = self.strength.value, self.part.settings.module_dropout
        if dropped and module.training and float(torch.rand(())) < dropped:  # on the CPU: nothing waits for a card
            strength = 0.0  # its gradient is zero: ranks that share weights must all go backward through them
        return self.part.after(inputs[0], output, self.site, strength, training=module.training)


class Network:
    """The small weights trained on top of a model: fp32 whatever the model's dtype. At first they change nothing.

    Layers keep their place, weights and number format: a hook changes what they get and give.

    Attributes:
        targets: the chosen weights of the released model, in model order.
        parts: what is trained at each target, by the target's name.
    """

    def __init__(self, model: BaseModel, config: NetworkConfig, draws: Draws) -> None:
        self.model = model
        self.config = config
        self.draws = draws
        self.targets: list[SizedTarget] = []
        self.parts: dict[str, Part] = {}
        self._strength = BlockValue(1.0)
        self._off = BlockValue[frozenset[str]](frozenset())

    def apply(self) -> None:
        """Attach the network to the loaded transformer.

        Raises:
            UserError: the job's filters leave no layer.
        """
        transformer = self.model.transformer
        assert transformer is not None, "the transformer is loaded before its network"
        chosen = choose_targets(self.model, self.config)
        self.targets = [SizedTarget.of(target, transformer) for target in chosen]
        for target in self.targets:
            layers = tuple(transformer.get_submodule(module) for module in target.modules)
            part = build_part(target, self.config, self.draws)
            sites = self.sites(target, layers)
            part.attach(sites, self.model.layout.whole)
            self.parts[target.name] = part.to(self.model.device_of(layers[0]))
            layers[0].add_module(NAME, part)  # so that the weights are among the transformer's
            strength = StrengthAt(self._strength, self._off, target.name)
            for site in sites:
                self._hook(site, part, strength)

    def beginning_on(self, model: BaseModel) -> Network:
        """A network like this one as it was at its start, on another model, whose transformer is loaded."""
        other = Network(model, self.config, self.draws)
        other.apply()
        return other

    def parameters(self) -> list[nn.Parameter]:
        """Every trained weight exactly once, in target order."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Like `parameters`, with unique names."""
        for target, part in self.parts.items():
            for name, parameter in part.named_parameters():
                yield f"{target}.{name}", parameter

    def num_parameters(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def rates(self, lr: float) -> dict[str, float]:
        """The weights that learn at another rate than the job's `lr`: factor of the rate by name."""
        return rates_of(self.parts, self.config, lr)

    @property
    def draws_numbers(self) -> bool:
        """Whether a forward pass in training draws random numbers."""
        return any(part.settings.draws_numbers for part in self.parts.values())

    def state_dict(self, dtype: torch.dtype, file_format: str = "bfl") -> StateDict:
        """The content of a file, under the file's keys, with every scale folded in.

        Raises:
            UserError: the format cannot represent one of the layers.
        """
        return self._file().tensors(dtype, format_of(self.config, file_format))

    def updates(self) -> dict[str, Update]:
        """Layer name in the loaded model -> its current update, of the layers that have a LoRA."""
        return self._file().updates()

    def load_state_dict(self, file_state: StateDict, *, source: str, metadata: Mapping[str, str] | None = None) -> None:
        """Load the weights of a file in any format that `toolkit.lora.parse` knows.

        Raises:
            UserError: the file is for another model, kind, rank or choice of layers.
        """
        self._file().load(file_state, source=source, metadata=metadata or {})

    def verifier(self, dtype: torch.dtype) -> Callable[[Path], None]:
        """A function that compares a file with the current weights, and raises UserError if they differ by too much."""
        return self._file().verifier(dtype)

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """For the length of a `with` block, the network counts `factor` times; so it does in its backward pass."""
        return self._strength.set(self._strength.value * factor)

    def without(self, targets: frozenset[str]) -> AbstractContextManager[None]:
        """For the length of a `with` block, the parts at these targets change nothing."""
        return self._off.set(targets)

    def _file(self) -> NetworkFile:
        return NetworkFile(self.model, self.targets, self.parts)

    def sites(self, target: SizedTarget, layers: tuple[nn.Module, ...]) -> tuple[Site, ...]:
        """Where each of a target's layers has its rows in the released weight."""
        if is_swapped(self.model, target):
            half = target.outputs // 2
            return (Site(0, ((half, target.outputs), (0, half)), layers),)
        rows = target.outputs // len(layers)
        return tuple(Site(i, ((i * rows, (i + 1) * rows),), layers) for i in range(len(layers)))

    def _hook(self, site: Site, part: Part, strength: Strength) -> None:
        layer: Any = site.layers[site.index]
        if part.turns_inputs:
            layer.register_forward_pre_hook(
                lambda _, inputs: (part.before(inputs[0], site, strength.value), *inputs[1:])
            )

        layer.register_forward_hook(LayerHook(part, site, strength))


def rates_of(parts: Mapping[str, Part], config: NetworkConfig, lr: float) -> dict[str, float]:
    """See `Network.rates`; the parts may be without memory."""
    found = {}
    for target, part in parts.items():
        own = 1.0 if part.settings.lr is None else part.settings.lr / lr
        for name, _ in part.named_parameters():
            factor = own * (config.loraplus_lr_ratio if name.startswith("lora_B") else 1.0)
            if factor != 1:
                found[f"{target}.{name}"] = factor
    return found
