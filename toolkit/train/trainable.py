"""The weights that a job trains: a network on top of the frozen transformer, or the transformer itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from toolkit.adapters.adapter_set import AdapterSet
from toolkit.errors import UserError
from toolkit.lora.files import write_lora_file
from toolkit.models.base_model import BaseModel
from toolkit.models.saving import save_transformer
from toolkit.models.weight_filter import choose_weights
from toolkit.networks.merged import merged_state
from toolkit.networks.network import Network
from toolkit.parallel.weight_layout import WeightLayout
from toolkit.runtime.devices import synchronize


class TrainableWeights(Protocol):
    """The weights that the optimizer changes. They are cast to the dtype users get only when they are saved.

    Attributes:
        adapters: the adapters among what is trained; empty without any.
    """

    adapters: AdapterSet

    @property
    def has_dropout(self) -> bool:
        """Whether a forward pass through the weights draws random numbers."""
        ...

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Every trained weight exactly once, in a fixed order."""
        ...

    def rates(self, lr: float) -> Mapping[str, float]:
        """The weights that learn at another rate than the job's `lr`: factor of the rate by name."""
        ...

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write the weights for use elsewhere, to `base` plus an extension. Returns the files, the main one first."""
        ...

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """Within the `with` block, scale what was trained by `factor`; 0 gives the model without it.

        Raises:
            UserError: the weights cannot be separated from the model's own, and `factor` is not 1.
        """
        ...

    def sampled(self, network: float, adapters: float) -> AbstractContextManager[None]:
        """Within the `with` block, scale a network and adapters as one sample asks.

        Raises:
            UserError: see `multiplied`.
        """
        ...

    def describe(self) -> str:
        """One line: what is trained, and how many weights that is."""
        ...


class NetworkWeights:
    """The fp32 weights of a network on top of the model."""

    adapters = AdapterSet()

    def __init__(self, network: Network, *, file_format: str = "bfl") -> None:
        self.network = network
        self.file_format = file_format

    @property
    def has_dropout(self) -> bool:
        """See TrainableWeights."""
        return self.network.draws_numbers

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See TrainableWeights."""
        return list(self.network.named_parameters())

    def rates(self, lr: float) -> Mapping[str, float]:
        """See TrainableWeights."""
        return self.network.rates(lr)

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write the network to a temporary file, and verify it before it replaces the old file.

        Raises:
            UserError: the written file differs from what is being trained, or the format cannot represent it.
        """
        path = base.with_name(f"{base.name}.safetensors")
        tensors = self.network.state_dict(dtype, self.file_format)
        check = self.network.verifier(dtype)
        self.network.model.layout.by_first(lambda: write_lora_file(path, tensors, metadata, check=check))
        return (path,)

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """See TrainableWeights."""
        return self.network.multiplied(factor)

    def sampled(self, network: float, adapters: float) -> AbstractContextManager[None]:
        """See TrainableWeights."""
        return self.network.multiplied(network)

    def describe(self) -> str:
        """See TrainableWeights."""
        count, layers = self.network.num_parameters(), len(self.network.targets)
        return f"{self.network.config.describe()} on {layers} layers: {count / 1e6:.2f} M weights"


class MergedWeights(NetworkWeights):
    """A network whose file is the whole model. What is trained, and what checkpoints resume from, stays the network.

    Args:
        network: the network.
        save_format: see `save_transformer`.
        strength: factor of the network in the file.
    """

    def __init__(self, network: Network, *, save_format: str, strength: float) -> None:
        super().__init__(network)
        self.save_format = save_format
        self.strength = strength

    def must_have_format(self) -> None:
        """Raises UserError if the model cannot be saved in the format."""
        if self.save_format != "diffusers":
            self.network.model.name_as_released(merged_state(self.network, self.strength))  # nothing is computed

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write the transformer weight by weight, and compare the file before it replaces the old one.

        Raises:
            UserError: the written file differs from what is being trained.
        """
        model = self.network.model
        synchronize(model.device)  # offloaded blocks may still be on their way
        weights = merged_state(self.network, self.strength)
        return save_transformer(
            model, base, save_format=self.save_format, dtype=dtype, metadata=metadata, weights=weights
        )

    def describe(self) -> str:
        """See TrainableWeights."""
        return f"{super().describe()}; its files are the whole transformer with it merged in"


class TransformerWeights:
    """All weights of the transformer, among them those of adapters that have replaced some of its layers.

    Args:
        model: the model.
        save_format: `safetensors` or `diffusers`.
        adapters: adapters whose weights are the transformer's own.
    """

    has_dropout = False

    def __init__(self, model: BaseModel, *, save_format: str, adapters: AdapterSet = AdapterSet()) -> None:  # noqa: B008 - frozen
        self._chosen: frozenset[str] | None = None
        self.model = model
        self.save_format = save_format
        self.adapters = adapters
        self.transformer = model.transformer

    def unfreeze(self, only: Sequence[str] = (), ignore: Sequence[str] = ()) -> None:
        """Let the optimizer change the weights: components are loaded frozen.

        Args:
            only: parts of names, see `choose_weights`; all weights if empty.
            ignore: parts of names of weights that stay frozen.

        Raises:
            UserError: see `choose_weights`.
        """
        if only or ignore:
            own = {id(p) for adapter in self.adapters.adapters for _, p in adapter.named_parameters()}
            always = {name for name, p in self.transformer.named_parameters() if id(p) in own}
            self._chosen = choose_weights(self.model, only, ignore) | always
        for name, parameter in self.transformer.named_parameters():
            parameter.requires_grad_(self._chosen is None or name in self._chosen)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See TrainableWeights."""
        chosen = self._chosen
        return [(name, p) for name, p in self.transformer.named_parameters() if chosen is None or name in chosen]

    def rates(self, lr: float) -> Mapping[str, float]:
        """See TrainableWeights."""
        return {}

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write a single file like the released one, or a folder for diffusers' `subfolder="transformer"`."""
        for adapter in self.adapters.adapters:
            metadata = {**metadata, **adapter.metadata()}
        return save_transformer(self.model, base, save_format=self.save_format, dtype=dtype, metadata=metadata)

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """See TrainableWeights. There is no network to scale."""
        if factor != 1:
            raise UserError("A full fine-tune has no network whose strength could be changed.")
        return nullcontext()

    @contextmanager
    def sampled(self, network: float, adapters: float) -> Iterator[None]:
        """See TrainableWeights."""
        with self.multiplied(network), self.adapters.scaled(adapters):
            yield

    def describe(self) -> str:
        """See TrainableWeights."""
        count = sum(p.numel() for _, p in self.named_parameters()) / 1e6
        whole = sum(p.numel() for p in self.transformer.parameters()) / 1e6
        if self._chosen is None:
            return f"the whole transformer: {whole:.2f} M weights"
        return f"{count:.2f} M of the transformer's {whole:.2f} M weights"


def raw_weights(weights: TrainableWeights, layout: WeightLayout) -> dict[str, Tensor]:
    """The trained weights without any cast, as far as this process holds them, for a bundle."""
    return {name: layout.local(parameter) for name, parameter in weights.named_parameters()}


@torch.no_grad()
def restore_weights(
    weights: TrainableWeights, tensors: Mapping[str, Tensor], layout: WeightLayout, *, source: Path
) -> None:
    """Restore what `raw_weights` returned.

    Raises:
        UserError: the bundle is from another network or model.
    """
    parameters = raw_weights(weights, layout)
    if tensors.keys() != parameters.keys() or any(tensors[name].shape != p.shape for name, p in parameters.items()):
        raise UserError(
            f"{source}: was saved by a job that trains other weights (network, rank, layers or model). "
            "Undo that change, or give this job another name."
        )
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
    layout.publish([weight for _, weight in weights.named_parameters()])
