"""LoRA files: read into updates with the model they are of, written with a hash of what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from toolkit.cards import find_cards
from toolkit.config import SaveConfig
from toolkit.errors import UserError
from toolkit.lora.parse import ADAPTER_METADATA, UnknownKeysError, format_of, parse
from toolkit.lora.update import Update, must_be_finite
from toolkit.lora.verify import WRITTEN_AS, verify
from toolkit.util.get_model import model_classes
from toolkit.weights.tensor_files import read_metadata, read_tensors, write_tensors

if TYPE_CHECKING:
    from toolkit.models.base_model import BaseModel

HASH = "modelspec.hash_sha256"
ARCH = "ss_base_model_version"


@dataclass(frozen=True)
class LoraFile:
    """What a file holds.

    Attributes:
        path: the file.
        model: class of the model it belongs to.
        updates: by target, fp32, alpha folded in.
        metadata: the header.
        dtype: of the weights in the file.
        spelling: how its keys are written.
        hash: of its tensors (`content_hash`).
    """

    path: Path
    model: type[BaseModel]
    updates: Mapping[str, Update]
    metadata: Mapping[str, str]
    dtype: torch.dtype
    spelling: str
    hash: str


def read_lora_file(path: Path, *, arch: str | None = None) -> LoraFile:
    """Read a LoRA of any known format.

    Args:
        path: the file.
        arch: whose names it uses; unset, the model that its header names, else the family that knows all its keys.

    Raises:
        UserError: it cannot be read, belongs to no known model, may belong to several families, or holds NaN.
    """
    tensors, metadata = read_tensors(path), read_metadata(path)
    model, updates = _owner(tensors, metadata, arch or metadata.get(ARCH), path)
    must_be_finite(updates, source=str(path))
    dtype = next(t.dtype for key, t in tensors.items() if not key.endswith(".alpha"))
    return LoraFile(path, model, updates, metadata, dtype, format_of(tensors), content_hash(tensors))


def _owner(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], arch: str | None, path: Path
) -> tuple[type[BaseModel], dict[str, Update]]:
    known = model_classes()
    candidates = {name: model for name, model in known.items() if arch in (None, name, model.base_model_version)}
    found: dict[str, tuple[type[BaseModel], dict[str, Update]]] = {}
    complaint: UserError | None = None
    for name, model in (candidates or known).items():  # none: a header of another program
        family = find_cards()[name].family
        try:
            found[family] = found.get(family) or (model, parse(tensors, metadata, model.locate_layer))
        except UnknownKeysError as error:
            complaint = complaint or error
        except UserError as error:  # of a model that has these layers: it says what is wrong with them
            complaint = error
    if len(found) > 1:
        archs = " or ".join(model.arch for model, _ in found.values())
        raise UserError(f"{path}: several models have layers of these names. Say whose LoRA it is: --arch {archs}.")
    if not found:
        raise UserError(f"{path}: {complaint}")
    return next(iter(found.values()))


def usual_format(source: LoraFile) -> str:
    """The format in which jobs with this model write LoRA, if they say nothing of it."""
    defaults = find_cards()[source.model.arch].defaults
    return str(defaults.get("save", {}).get("lora_format", SaveConfig().lora_format))


def write_updates(path: Path, source: LoraFile, updates: Mapping[str, Update], *, file_format: str) -> None:
    """Write updates made from a file, in its dtype (fp32 for uncommon ones) and with its header, and read it back.

    Raises:
        UserError: the format cannot carry a layer, or what was read back differs.
    """
    dtype = source.dtype if source.dtype in WRITTEN_AS else torch.float32
    tensors = source.model.write_lora({name: u.to(dtype) for name, u in updates.items()}, file_format)
    # Alpha is in the weights now: a header that still tells it would be applied a second time.
    metadata = {key: value for key, value in source.metadata.items() if key != ADAPTER_METADATA} | {"format": "pt"}
    ranks = {update.rank for update in updates.values()}
    metadata |= {"ss_network_dim": str(max(ranks)), "ss_network_alpha": str(max(ranks))}
    locate = source.model.locate_layer
    write_lora_file(path, tensors, metadata, check=lambda file: verify(file, updates, locate, dtype=dtype))


def write_lora_file(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, check: Callable[[Path], None]
) -> None:
    """Write a LoRA with the hash of its tensors in the header; see `write_tensors` for `check`."""
    write_tensors(path, tensors, {**metadata, HASH: f"0x{content_hash(tensors)}"}, check=check)


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, of the data part of a safetensors file with these tensors, whatever its header says.

    Source: Stability AI's modelspec 1.0, `hash_sha256`.
    """
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    start = 8 + int.from_bytes(data[:8], "little")
    return hashlib.sha256(memoryview(data)[start:]).hexdigest()


def stated(metadata: Mapping[str, str], key: str) -> dict[str, object]:
    """A JSON object in a header; empty if there is none."""
    try:
        value = json.loads(metadata.get(key, "{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
