"""Reads LoRA files together with the model they belong to, and writes them with a hash of their tensors."""

from __future__ import annotations

import hashlib
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
from toolkit.lora.header import ARCH, HASH
from toolkit.lora.keys import UnknownKeysError, without_parts
from toolkit.lora.parse import Changes, parse_changes
from toolkit.lora.settings import ADAPTER_METADATA, read_lora_tensors
from toolkit.lora.update import Update, must_be_finite, must_be_finite_tensor
from toolkit.lora.verify import WRITTEN_AS, verify
from toolkit.util.get_model import model_classes
from toolkit.weights.tensor_files import write_tensors

if TYPE_CHECKING:
    from toolkit.models.base_model import BaseModel


@dataclass(frozen=True)
class AdapterFile:
    """The contents of a file that changes a model's weights.

    Attributes:
        path: path of the file.
        model: class of the model that the file belongs to.
        changes: the changes it makes to the model.
        metadata: the file's header, plus peft's settings found beside the file.
        dtype: number format of the weights in the file.
        hash: `content_hash` of the file's tensors.
    """

    path: Path
    model: type[BaseModel]
    changes: Changes
    metadata: Mapping[str, str]
    dtype: torch.dtype
    hash: str

    @classmethod
    def of_model(cls, path: Path, model: type[BaseModel], arch: str | None) -> AdapterFile:
        """Stands for a whole model from which a LoRA is made: no changes, weights in fp32."""
        header = {} if arch is None else {ARCH: model.base_model_version or arch}
        return cls(path, model, Changes({}, {}, {}, ""), header, torch.float32, "")


@dataclass(frozen=True)
class LoraFile(AdapterFile):
    """A LoRA, or a file that can be written as one.

    Attributes:
        updates: the update of each target by name, in fp32 with alpha folded in.
    """

    updates: Mapping[str, Update]


def read_adapter_file(path: Path, *, arch: str | None = None, without: tuple[str, ...] = ()) -> AdapterFile:
    """Read a file of any known format and kind.

    Args:
        path: path of the file.
        arch: model that the file belongs to; if unset, the model its header names, else the family that knows its keys.
        without: components whose tensors are left out; only `text_encoder` is possible.

    Raises:
        UserError: the file cannot be read, has NaN, or belongs to no known model or to more than one family.
    """
    tensors, metadata = read_lora_tensors(path)
    tensors = without_parts(tensors, without)
    for key, tensor in tensors.items():
        if not key.endswith(".alpha"):  # ai-toolkit writes a meaningless infinite alpha for LoKr
            must_be_finite_tensor(tensor, key, source=str(path))
    model, changes = _owner(tensors, metadata, arch or metadata.get(ARCH), path)
    dtype = next(t.dtype for key, t in tensors.items() if not key.endswith(".alpha"))
    return AdapterFile(path, model, changes, metadata, dtype, content_hash(tensors))


def read_lora_file(path: Path, *, arch: str | None = None, without: tuple[str, ...] = ()) -> LoraFile:
    """Like `read_adapter_file`, but only for LoRA and LoKr.

    Raises:
        UserError: see `read_adapter_file`; also if the file has changes that a LoRA cannot represent.
    """
    return as_lora(read_adapter_file(path, arch=arch, without=without))


def as_lora(file: AdapterFile) -> LoraFile:
    """A file that was read, as a LoRA.

    Raises:
        UserError: it has NaN, or changes that a LoRA cannot represent.
    """
    if not file.changes.is_lora():
        raise UserError(
            f"{file.path}: contains {' and '.join(file.changes.kinds())}, which a LoRA cannot represent. The file can "
            "be inspected (`info`), added to its model (`merge`) and turned into the nearest LoRA (`resize`), but not "
            "converted without loss."
        )
    updates = file.changes.updates()
    must_be_finite(updates, source=str(file.path))
    return LoraFile(**vars(file), updates=updates)


def _owner(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], arch: str | None, path: Path
) -> tuple[type[BaseModel], Changes]:
    known = model_classes()
    candidates = {name: model for name, model in known.items() if arch in (None, name, model.base_model_version)}
    found: dict[str, tuple[type[BaseModel], Changes]] = {}
    unknown: dict[str, UnknownKeysError] = {}
    complaint: UserError | None = None
    for name, model in (candidates or known).items():  # no candidates: another program wrote the header
        family = find_cards()[name].family
        try:
            found[family] = found.get(family) or (model, parse_changes(tensors, metadata, model.locate_layer))
        except UnknownKeysError as error:
            unknown[name] = error
        except UserError as error:  # the model has these layers: this error names what is wrong with them
            complaint = error
    if len(found) > 1:
        archs = " or ".join(model.arch for model, _ in found.values())
        raise UserError(f"{path}: several models have layers with these names. Choose one with --arch {archs}.")
    if not found and complaint is None:
        best = min(unknown, key=lambda name: unknown[name].count)
        nearest = f"closest to a LoRA for {find_cards()[best].label}, but " if len(unknown) > 1 else ""
        raise UserError(f"{path}: {nearest}{unknown[best]}")
    if not found:
        raise UserError(f"{path}: {complaint}")
    return next(iter(found.values()))


def usual_format(model: type[BaseModel]) -> str:
    """The format in which jobs of this model write LoRA files by default."""
    defaults = find_cards()[model.arch].defaults
    return str(defaults.get("save", {}).get("lora_format", SaveConfig().lora_format))


def write_updates(path: Path, source: AdapterFile, updates: Mapping[str, Update], *, file_format: str) -> None:
    """Write updates derived from a source file, with its dtype (fp32 if uncommon) and header, and verify the result.

    Raises:
        UserError: the format cannot represent a layer, or the written file does not read back equal.
    """
    dtype = source.dtype if source.dtype in WRITTEN_AS else torch.float32
    tensors = source.model.write_lora({name: u.to(dtype) for name, u in updates.items()}, file_format)
    # Alpha is in the weights now: left in the header, it would be applied a second time.
    metadata = {key: value for key, value in source.metadata.items() if key != ADAPTER_METADATA} | {"format": "pt"}
    ranks = {update.rank for update in updates.values()}
    metadata |= {"ss_network_dim": str(max(ranks)), "ss_network_alpha": str(max(ranks))}
    locate = source.model.locate_layer
    write_lora_file(path, tensors, metadata, check=lambda file: verify(file, updates, locate, dtype=dtype))


def write_lora_file(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, check: Callable[[Path], None]
) -> None:
    """Write a LoRA file with the hash of its tensors in the header; see `write_tensors` for `check`."""
    write_tensors(path, tensors, {**metadata, HASH: f"0x{content_hash(tensors)}"}, check=check)


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, of the data section of a safetensors file with these tensors; its header does not matter.

    Source: Stability AI's modelspec 1.0, `hash_sha256`.
    """
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    start = 8 + int.from_bytes(data[:8], "little")
    return hashlib.sha256(memoryview(data)[start:]).hexdigest()
