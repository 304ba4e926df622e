"""The names under which other programs look for a layer's tensors in a file, for kinds other than LoRA."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.layer_rows import Range, Roles, cut, rank_of
from toolkit.lora.update import SizedTarget, Update
from toolkit.models.base_model import BaseModel

LYCORIS = "lycoris"  # underscored names of diffusers' layers after `lycoris_`: ai-toolkit's old format for LoKr
_SUFFIXES = (".lora_A.weight", ".lora_down.weight")
_KOHYA = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}


@dataclass(frozen=True)
class FileLayer:
    """A layer as a file has it: its name there, and which rows of the target it has."""

    name: str
    rows: Range


def named_tensors(
    model: BaseModel | type[BaseModel], target: SizedTarget, tensors: Roles, file_format: str
) -> dict[str, Tensor]:
    """The tensors of one target by their keys in the file.

    Args:
        model: the model, which need not be loaded, or its class.
        target: the target.
        tensors: what `Part.tensors` returned, in the number format of the file.
        file_format: a format of the model, or `LYCORIS`.

    Raises:
        UserError: the format has no layer, or no such layer, for the target.
    """
    found: dict[str, Tensor] = {}
    layers = file_layers(model, target, file_format)
    if len(layers) > 1 and file_format != LYCORIS:
        raise UserError(
            f"{target.name}: cannot be written as `{file_format}`, which has {len(layers)} layers for it: the library "
            f"reads only LoRA there. Choose the format `bfl`, which it reads, too."
        )
    for layer in layers:
        try:
            roles = cut(tensors, layer.rows, target.outputs)
        except ValueError as error:
            raise UserError(
                f"{target.name}: cannot be written as `{file_format}`, which has {layer.name} by itself: {error}. "
                "Choose another format."
            ) from error
        found |= {f"{layer.name}.{_spelled(role, file_format)}": tensor for role, tensor in roles.items()}
        if file_format in ("kohya", LYCORIS) and (rank := rank_of(roles)) is not None:
            # fp32 as in a LoRA; equal to the rank, since the scale is in the weights.
            found[f"{layer.name}.alpha"] = torch.tensor(float(rank))
    return found


def file_layers(model: BaseModel | type[BaseModel], target: SizedTarget, file_format: str) -> list[FileLayer]:
    """The layers of a file that stand for a target, by what the model makes of an update whose rows are numbered.

    Raises:
        UserError: the file's layers are not rows of the target one after another.
    """
    numbers = torch.arange(1, target.outputs + 1, dtype=torch.float64)[:, None]  # from 1: zeros may be left out
    update = Update(torch.ones(1, target.inputs, dtype=torch.float64), numbers)
    written = model.write_lora({target.name: update}, "diffusers" if file_format == LYCORIS else file_format)
    layers, start = [], 0
    for key, tensor in written.items():
        suffix = next((suffix for suffix in _SUFFIXES if key.endswith(suffix)), None)
        if suffix is None:
            continue
        name = key.removesuffix(suffix)
        up = written[f"{name}{suffix.replace('lora_A', 'lora_B').replace('down', 'up')}"]
        stop = start + len(up)
        if tensor.shape != (1, target.inputs) or not torch.equal(up, numbers[start:stop]):
            raise UserError(
                f"{target.name}: only a LoRA can be written as `{file_format}`, which fuses this layer with others or "
                "has its rows in another order. Choose another save.lora_format."
            )
        layers.append(FileLayer(_lycoris(name) if file_format == LYCORIS else name, (start, stop)))
        start = stop
    if start != target.outputs:
        raise UserError(f"{target.name}: cannot be written as `{file_format}`. Choose another save.lora_format.")
    return layers


def _spelled(role: str, file_format: str) -> str:
    return _KOHYA.get(role, role) if file_format == "kohya" else role


def _lycoris(name: str) -> str:
    return "lycoris_" + name.removeprefix("transformer.").replace(".", "_")
