"""Files of a control LoRA's input columns: the LoRA with a new shape of the layer that ComfyUI reads.

The columns W_c, [hidden size, K], are the LoRA B A with A = [0 | I] and B = W_c on a layer whose weight is first padded
with K columns of zeros to `reshape_weight`. That is exact, and of rank K. ComfyUI gives a layer that has grown to twice
its input channels the latents of a control picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.update import Update, must_be_finite_tensor
from toolkit.models.base_model import BaseModel, StateDict

AI_TOOLKIT_KEY = "transformer.x_embedder.weight"
SHAPE = "reshape_weight"
_BIASES = (".lora_B.bias", ".lora_up.bias", ".diff_b")  # as published, and as diffusers and ComfyUI rename them
_NORMS = ("_norm.scale", "_norm.set_weight", ".norm_q.weight", ".norm_k.weight", ".norm_added_q.weight")


def widening(columns: Tensor, num_own: int) -> Update:
    """The update [0 | W_c] of a weight that has been padded with zeros.

    Args:
        columns: W_c, [hidden size, K].
        num_own: number of the layer's own input channels.
    """
    count = columns.shape[1]
    added = torch.cat([columns.new_zeros(count, num_own), torch.eye(count).to(columns)], dim=1)  # [K, own + K]
    return Update(added, columns)


def write_columns(columns: Tensor, model: BaseModel) -> StateDict:
    """The content of an adapter's file."""
    keys, num_own = FileKeys.of(model), num_own_channels(model)
    update = widening(columns, num_own)
    shape = torch.tensor([columns.shape[0], num_own + columns.shape[1]])
    return {keys.a: update.a, keys.b: update.b, keys.shape: shape}


def read_columns(tensors: StateDict, model: BaseModel, *, like: Tensor, source: str) -> Tensor:
    """W_c from the content of a file, ours or ai-toolkit's.

    Args:
        tensors: content of the file.
        model: the model that the columns belong to.
        like: a tensor of the expected shape.
        source: the file, for messages.

    Raises:
        UserError: keys are missing or unknown, a shape is wrong, or the file also changes the model's own columns.
    """
    if tensors.keys() == {AI_TOOLKIT_KEY}:
        columns = tensors[AI_TOOLKIT_KEY]
    else:
        columns = _new_columns(tensors, FileKeys.of(model), num_own_channels(model), source)
    if columns.shape != like.shape:
        raise UserError(
            f"{source}: has new input channels of shape {list(columns.shape)}, and this job needs {list(like.shape)}. "
            "It belongs to another model, or to other `num_control_images` or `has_inpainting_input`."
        )
    must_be_finite_tensor(columns, "control columns", source=source)
    return columns


def tensors_of_lora(tensors: Mapping[str, Tensor], model: BaseModel) -> StateDict:
    """The LoRA that is in one file with the columns: as ai-toolkit writes them, or joined for ComfyUI.

    Raises:
        UserError: the file also changes biases or norms, as Black Forest Labs' control LoRAs do.
    """
    biases = sum(key.endswith(_BIASES) for key in tensors)
    norms = sum(key.endswith(_NORMS) for key in tensors)
    if biases or norms:
        raise UserError(
            f"adapter.name_or_path: the file also changes {biases} biases and {norms} norms of the model. The files "
            "that this job writes, a LoRA and new input channels, cannot hold these changes, so they would be useless "
            "without this file. Start without it."
        )
    keys = FileKeys.of(model)
    own = {AI_TOOLKIT_KEY} if AI_TOOLKIT_KEY in tensors else {keys.a, keys.b, keys.shape}
    if not own <= tensors.keys():
        return {}
    return {name: tensor for name, tensor in tensors.items() if name not in own}


def num_own_channels(model: BaseModel) -> int:
    """Number of input channels of the model's embedder."""
    ends = model.get_ends()
    assert ends is not None, "the adapter is attached"
    return int(ends.image_embedder.in_features)  # type: ignore[arg-type]


@dataclass(frozen=True)
class FileKeys:
    """Keys of the three tensors of a file."""

    a: str
    b: str
    shape: str

    @classmethod
    def of(cls, model: BaseModel) -> FileKeys:
        """The keys for a model's embedder."""
        ends = model.get_ends()
        assert ends is not None, "the adapter is attached"
        modules = (ends.image_embedder_name,)
        target = next(target.name for target in model.get_lora_targets() if target.modules == modules)
        a, b = model.write_lora({target: Update(torch.zeros(1, 1), torch.zeros(1, 1))}, "bfl")
        return cls(a, b, f"{a.removesuffix('.lora_A.weight')}.{SHAPE}")


def _new_columns(tensors: StateDict, keys: FileKeys, num_own: int, source: str) -> Tensor:
    names = (keys.a, keys.b, keys.shape)
    missing, unknown = [name for name in names if name not in tensors], [name for name in tensors if name not in names]
    if missing or unknown:
        found = [
            f"{word}: {', '.join(some[:3])}" for some, word in ((missing, "missing"), (unknown, "unknown")) if some
        ]
        hint = " A LoRA for other layers is a separate file: give it as `network.pretrained_lora_path`."
        raise UserError(
            f"{source}: is not a file of this control_lora adapter. {'; '.join(found)}.{hint if unknown else ''}"
        )
    a, b = tensors[keys.a].float(), tensors[keys.b].float()
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or a.shape[1] <= num_own:
        raise UserError(
            f"{source}: {keys.a} {list(a.shape)} and {keys.b} {list(b.shape)} do not widen a layer of {num_own} input "
            "channels. It belongs to another model."
        )
    if bool(a[:, :num_own].any()):
        raise UserError(
            f"{source}: also changes the model's own input channels, which this adapter does not train. Start without "
            "the file."
        )
    return b @ a[:, num_own:]
