"""The weights that a job trains: a network beside the frozen transformer, or the transformer itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.files import whole_folder
from toolkit.lora.files import write_lora_file
from toolkit.lora.verify import verify
from toolkit.models.base_model import BaseModel
from toolkit.networks.lora import LoRASpecialNetwork
from toolkit.weights.tensor_files import write_tensors


class TrainableWeights(Protocol):
    """The weights that the optimizer changes. What users get is cast when it is saved."""

    @property
    def has_dropout(self) -> bool:
        """Whether a pass through them draws random numbers."""
        ...

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Every trained weight once, in a fixed order."""
        ...

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write what users load elsewhere, at `base` plus an extension. Returns the files, the main one first."""
        ...

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """For the length of a `with` block, what was trained counts `factor` times; 0 is the model without it.

        Raises:
            UserError: these weights cannot be told from the model's own, and `factor` is not 1.
        """
        ...

    def describe(self) -> str:
        """One line: what is trained, and how much of it there is."""
        ...


class NetworkWeights:
    """Those of a network beside the model. They are fp32."""

    def __init__(self, network: LoRASpecialNetwork, *, file_format: str = "bfl") -> None:
        self.network = network
        self.file_format = file_format

    @property
    def has_dropout(self) -> bool:
        """See TrainableWeights."""
        return self.network.config.dropout > 0

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See TrainableWeights."""
        return list(self.network.named_parameters())

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write the LoRA, and read it back before it takes its place.

        Raises:
            UserError: what was read back is not what is being trained, or the format cannot carry it.
        """
        path = base.with_name(f"{base.name}.safetensors")
        tensors, place = self.network.state_dict(dtype, self.file_format), self.network.model.locate_layer
        write_lora_file(
            path,
            tensors,
            metadata,
            check=lambda written: verify(written, self.network.updates(), place, dtype=dtype),
        )
        return (path,)

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """See TrainableWeights."""
        return self.network.multiplied(factor)

    def describe(self) -> str:
        """See TrainableWeights."""
        count, layers = self.network.num_parameters(), len(self.network.targets)
        return f"LoRA of rank {self.network.config.linear} on {layers} layers: {count / 1e6:.2f} M weights"


class TransformerWeights:
    """All weights of the transformer."""

    has_dropout = False

    def __init__(self, model: BaseModel, *, save_format: str) -> None:
        self.model = model
        self.save_format = save_format
        self.transformer = model.transformer

    def unfreeze(self) -> None:
        """Let the optimizer change them: components are loaded frozen."""
        self.transformer.requires_grad_(True)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See TrainableWeights."""
        return list(self.transformer.named_parameters())

    def save(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Write the released single file, or a folder that diffusers loads with `subfolder="transformer"`."""
        if self.save_format == "diffusers":
            return self._save_folder(base, dtype=dtype, metadata=metadata)
        path = base.with_name(f"{base.name}.safetensors")
        state = {name: tensor.to(dtype) for name, tensor in self.model.model_state_to_save().items()}
        write_tensors(path, state, metadata)
        return (path,)

    def _save_folder(self, base: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        with whole_folder(base) as temporary:
            folder = temporary / "transformer"
            state = {name: tensor.to(dtype) for name, tensor in self.transformer.state_dict().items()}
            write_tensors(folder / "diffusion_pytorch_model.safetensors", state, metadata)
            self.transformer.save_config(folder)
        return tuple(sorted(path for path in base.rglob("*") if path.is_file()))

    def multiplied(self, factor: float) -> AbstractContextManager[None]:
        """See TrainableWeights. There is nothing beside the model to scale."""
        if factor != 1:
            raise UserError("In a full fine-tune there is no network whose strength could be changed.")
        return nullcontext()

    def describe(self) -> str:
        """See TrainableWeights."""
        return f"the whole transformer: {sum(p.numel() for p in self.transformer.parameters()) / 1e6:.2f} M weights"


def raw_weights(weights: TrainableWeights) -> dict[str, Tensor]:
    """The trained weights as they are, for a bundle."""
    return {name: parameter.detach() for name, parameter in weights.named_parameters()}


@torch.no_grad()
def restore_weights(weights: TrainableWeights, tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Put back what `raw_weights` gave.

    Raises:
        UserError: the bundle is of another network or model.
    """
    parameters = dict(weights.named_parameters())
    if tensors.keys() != parameters.keys() or any(tensors[name].shape != p.shape for name, p in parameters.items()):
        raise UserError(
            f"{source}: was saved by a job with other trained weights (network, rank, layers or model). "
            "Undo that change, or give this job another name."
        )
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
