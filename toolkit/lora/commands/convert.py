"""Rewrites a file of any kind with another program's key names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.files import AdapterFile, read_lora_file, usual_format, write_lora_file, write_updates
from toolkit.lora.keys import Layer, sort_keys, without_parts
from toolkit.lora.layer_rows import Roles, by_target, height_of
from toolkit.lora.parse import parse
from toolkit.lora.settings import ADAPTER_METADATA, read_lora_tensors
from toolkit.lora.update import Location, SizedTarget, Update
from toolkit.lora.verify import WRITTEN_AS, not_saved, verify
from toolkit.networks.names import LYCORIS, named_tensors
from toolkit.weights.tensor_files import read_tensors

_LORA = {"a", "b", "alpha"}


def convert(
    path: Path, output: Path, *, source: AdapterFile, file_format: str | None, without: tuple[str, ...] = ()
) -> list[str]:
    """Write a file in another format, by default the one that jobs write. Returns lines for the user.

    Every layer keeps its kind. Only a LoKr that the format cannot have, because it fuses layers whose LoKrs differ or
    cuts one within a block, becomes a LoRA; the lines say so.

    Args:
        path: the file.
        output: the file to write.
        source: what `read_adapter_file` returned for it.
        file_format: `bfl`, `diffusers`, `kohya` or `lycoris`.
        without: see `read_adapter_file`.

    Raises:
        UserError: the format cannot represent one of the layers.
    """
    file_format = file_format or usual_format(source.model)
    tensors = without_parts(read_lora_tensors(path)[0], without)
    layers = sort_keys(tensors, source.model.locate_layer)
    loras = {where for where, layer in layers.located.items() if layer.roles.keys() <= _LORA}
    is_foreign = ADAPTER_METADATA in source.metadata  # peft's strengths are not in the tensors
    why = ""
    if len(loras) < len(layers.located) and not is_foreign and not layers.others:
        try:
            return _keep_kinds(output, source, layers.located, loras, file_format)
        except UserError as error:
            if not source.changes.is_lora():
                raise
            if file_format == LYCORIS:
                raise
            why = f" (LoKrs written as LoRAs: {error})"
    if file_format == LYCORIS:
        raise UserError(f"{path}: LyCORIS files have no special names for LoRAs. Choose bfl, diffusers or kohya.")
    file = read_lora_file(path, arch=source.model.arch, without=without)
    write_updates(output, file, file.updates, file_format=file_format)
    return [f"{output}: {len(file.updates)} layers as {file_format}, read back and equal to {path}{why}"]


def _keep_kinds(
    output: Path, source: AdapterFile, located: Mapping[Location, Layer], loras: set[Location], file_format: str
) -> list[str]:
    dtype = source.dtype if source.dtype in WRITTEN_AS else torch.float32
    model, found = source.model, dict[str, Tensor]()
    own = {key: layer.roles[role] for where in loras for layer in (located[where],) for role, key in layer.keys.items()}
    updates = parse(own, source.metadata, model.locate_layer) if own else {}
    if updates and file_format == LYCORIS:
        raise UserError(f"{source.path}: also has LoRAs, for which LyCORIS files have no special names.")
    if updates:
        found |= model.write_lora({name: update.to(dtype) for name, update in updates.items()}, file_format)
    others = by_target({where: layer for where, layer in located.items() if where not in loras})
    for target, roles in others.items():
        # The names depend only on the rows.
        sized = SizedTarget(target, (target,), inputs=1, outputs=height_of(roles))
        found |= named_tensors(model, sized, {r: t.to(dtype).contiguous() for r, t in roles.items()}, file_format)
    metadata = {key: value for key, value in source.metadata.items() if key != ADAPTER_METADATA} | {"format": "pt"}
    write_lora_file(output, found, metadata, check=lambda file: _verify(file, source, updates, others, dtype))
    return [f"{output}: {len(updates) + len(others)} layers as {file_format}, read back and equal to {source.path}"]


def _verify(
    path: Path, source: AdapterFile, updates: Mapping[str, Update], others: Mapping[str, Roles], dtype: torch.dtype
) -> None:
    located = sort_keys(read_tensors(path), source.model.locate_layer).located
    loras = {where: layer for where, layer in located.items() if layer.roles.keys() <= _LORA}
    if updates:
        keys = {key for layer in loras.values() for key in layer.keys.values()}
        verify(path, updates, source.model.locate_layer, dtype=dtype, only=keys)
    found = by_target({where: layer for where, layer in located.items() if where not in loras})
    unit, step = WRITTEN_AS[dtype]
    if found.keys() != others.keys():
        raise UserError(not_saved("the file that was written has other layers"))
    for target, roles in others.items():
        for role, wanted in roles.items():
            error = (found[target][role] - wanted).abs() if role in found[target] else torch.tensor(float("nan"))
            if not bool((error <= 2 * unit * wanted.abs() + step).all()):  # written so that NaN fails
                raise UserError(not_saved(f"{target}.{role} differs", dtype))
