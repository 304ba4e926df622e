"""Writes a trained control LoRA for other programs: as one LoRA file for ComfyUI, or as a transformer for diffusers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from toolkit.adapters.control.files import SHAPE
from toolkit.errors import UserError
from toolkit.files import whole_folder, write_bytes
from toolkit.lora.commands.merge import merge
from toolkit.lora.files import read_lora_file
from toolkit.lora.update import Update, updates_of
from toolkit.models.base_model import BaseModel
from toolkit.util.get_model import model_classes
from toolkit.weights.tensor_files import read_metadata, read_tensors, write_tensors

_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class ControlFile:
    """The content of a control LoRA's file.

    Attributes:
        model: class of the model that it belongs to.
        layer: name of the embedder in the file.
        update: the update [0 | W_c] of the padded embedder, fp32.
        num_own: number of the embedder's own input channels.
        metadata: the file's header.
    """

    model: type[BaseModel]
    layer: str
    update: Update
    num_own: int
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> ControlFile:
        """Read an adapter's file.

        Raises:
            UserError: the file cannot be read, or is not a control LoRA of this trainer.
        """
        tensors, metadata = read_tensors(path), read_metadata(path)
        layers = [key.removesuffix(f".{SHAPE}") for key in tensors if key.endswith(f".{SHAPE}")]
        model = model_classes().get(metadata.get("adapter_arch", ""))
        if metadata.get("adapter_type") != "control_lora" or len(tensors) != 3 or len(layers) != 1 or model is None:
            raise UserError(f"{path}: is not the adapter file of a control_lora job of this trainer.")
        a, b = tensors[f"{layers[0]}{_A}"].float(), tensors[f"{layers[0]}{_B}"].float()
        return cls(model, layers[0], Update(a, b), a.shape[1] - a.shape[0], metadata)


def join(adapter: Path, lora: Path | None, output: Path) -> list[str]:
    """Write a control LoRA and the LoRA beside it as one file, which ComfyUI's LoRA loader reads.

    Raises:
        UserError: a file cannot be read, or they belong to different models.
    """
    control = ControlFile.read(adapter)
    tensors, own = dict(read_tensors(adapter)), control.update
    dtype = tensors[f"{control.layer}{_B}"].dtype
    if lora is not None:
        source = read_lora_file(lora, arch=control.model.arch)
        blocks = control.model.write_lora(dict(source.updates), "bfl")
        if f"{control.layer}{_A}" in blocks:  # the LoRA changes the embedder's own columns: their ranks add up
            own = _stacked(Update(blocks[f"{control.layer}{_A}"], blocks[f"{control.layer}{_B}"]), own)
        tensors = {**{name: tensor.to(dtype) for name, tensor in blocks.items()}, **tensors}
    tensors |= {f"{control.layer}{_A}": own.a.to(dtype), f"{control.layer}{_B}": own.b.to(dtype)}
    write_tensors(output, tensors, {**control.metadata, "format": "pt"})
    count = len(updates_of(tensors))
    return [f"{output}: {count} layers; the embedder grows from {control.num_own} to {own.a.shape[1]} input channels"]


def widen(adapter: Path, lora: Path | None, base: Path, output: Path) -> list[str]:
    """Write a transformer whose embedder has the control's input channels, with the LoRA merged into it.

    Needs memory for the weights file that has the embedder.

    Args:
        adapter: the adapter's file.
        lora: the LoRA that was trained beside it.
        base: the folder of the model's transformer in diffusers' layout.
        output: folder to write.

    Raises:
        UserError: a file cannot be read, or the base is not the transformer of this model.
    """
    control = ControlFile.read(adapter)
    settings = base / "config.json"
    if not settings.is_file():
        raise UserError(f"{base}: is not the transformer of a diffusers folder: it has no config.json (--base).")
    with whole_folder(output) as folder:
        if lora is None:
            shutil.copytree(base, folder, dirs_exist_ok=True)
        else:
            merge([lora], base, folder / "merged", weights=[1.0], arch=control.model.arch)
            shutil.copytree(folder / "merged", folder, dirs_exist_ok=True)
            shutil.rmtree(folder / "merged")
        _widen_embedder(control, folder, base)
        config = json.loads(settings.read_text(encoding="utf-8"))
        config["out_channels"] = config.get("out_channels") or config["in_channels"]
        config["in_channels"] = control.update.a.shape[1]
        write_bytes(folder / "config.json", json.dumps(config, indent=2).encode())
    return [
        f"{output}: transformer with {control.update.a.shape[1]} input channels, of which {control.num_own} are noisy"
    ]


def _widen_embedder(control: ControlFile, folder: Path, base: Path) -> None:
    where = control.model.locate_layer(control.layer.rpartition(".")[2])
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
        for key in keys:
            if key.endswith(".weight") and control.model.locate_layer(key.removesuffix(".weight")) == where:
                tensors, metadata = read_tensors(path), read_metadata(path)
                tensors[key] = _wide(tensors[key], control, base)
                write_tensors(path, tensors, metadata)
                return
    raise UserError(f"{base}: has no layer {control.layer}. Is it the transformer of {control.model.arch} (--base)?")


def _wide(weight: Tensor, control: ControlFile, base: Path) -> Tensor:
    delta = control.update.delta()
    if tuple(weight.shape) != (delta.shape[0], control.num_own):
        raise UserError(
            f"{base}: its embedder is {list(weight.shape)} instead of {[delta.shape[0], control.num_own]}. It is "
            "another model (--base)."
        )
    return torch.cat([weight.float(), delta[:, control.num_own :]], dim=1).to(weight.dtype)


def _stacked(plain: Update, wide: Update) -> Update:
    """The sum of an update of the own columns and one of all columns."""
    a = torch.nn.functional.pad(plain.a.float(), (0, wide.a.shape[1] - plain.a.shape[1]))
    return Update(torch.cat([a, wide.a]), torch.cat([plain.b.float(), wide.b], dim=1))
