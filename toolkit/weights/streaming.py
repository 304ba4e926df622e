"""Loads weights from files into a module one tensor at a time, to need no memory beyond the module and one tensor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.tensor_index import TensorIndex

# Converts one tensor of a file, by name, to the tensors of the module that it becomes.
Convert = Callable[[str, Tensor], dict[str, Tensor]]
# Cuts a tensor of the module, by name, to the rows that this process keeps.
Rows = Callable[[str, Tensor], Tensor]
# Shapes of a module's tensors, by name.
Shapes = Mapping[str, tuple[int, ...]]
_SHOWN = 3
# Prefixes that programs put before the tensor names of a component.
_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "vae.", "first_stage_model.", "transformer.")


def unchanged(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The conversion for files that use the module's own tensor names."""
    return {name: tensor}


def recognized(index: TensorIndex, layouts: Mapping[str, Convert]) -> tuple[TensorIndex, Convert] | None:
    """The tensors of a component in a file, and their conversion; None if the file does not contain the component.

    Args:
        index: all tensors of the file.
        layouts: conversion of each known layout, by the name of a tensor that only this layout has.
    """
    for prefix in _PREFIXES:
        for marker, convert in layouts.items():
            if f"{prefix}{marker}" in index.entries:
                return index.under(prefix), convert
    return None


def converted_shapes(weights: PlainWeights, convert: Convert) -> dict[str, tuple[int, ...]]:
    """Shapes that the files' tensors will have in the module, by name. Reads no values."""
    # Not on the meta device, on which joining two tensors loads torch's compiler: a second and 130 MB. One byte stands
    # for a whole tensor, and what is joined takes a byte for each element.
    byte = torch.zeros((), dtype=torch.uint8)
    return {
        name: tuple(tensor.shape)
        for source, entry in weights.entries.items()
        for name, tensor in convert(source, byte.expand(entry.shape)).items()
    }


def check_fit(module: nn.Module, shapes: Shapes, *, path: Path, kind: str, optional: Collection[str] = ()) -> None:
    """Check that a module's tensors match those of its files.

    Args:
        module: the module, possibly on the meta device.
        shapes: shapes of the files' tensors, from `converted_shapes`.
        path: path of the files, for messages.
        kind: name of the module, for messages, such as "transformer of FLUX.1".
        optional: names of tensors that the files may lack.

    Raises:
        UserError: tensors are missing, unknown or have other shapes; they are counted and the first few are named.
    """
    problems = misfits(shapes, {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, optional)
    if problems:
        raise UserError(
            f"{path}: its tensors do not match the {kind}. {problems}. The file belongs to another model or is "
            "incomplete: check model.arch and the path, or download it again."
        )


def misfits(shapes: Shapes, wanted: Shapes, optional: Collection[str] = ()) -> str:
    """What is wrong with the tensors of a file, counted, with the first few names; empty if they are as wanted.

    Args:
        shapes: shapes of the file's tensors, by name.
        wanted: shapes that they should have.
        optional: names of tensors that the file may lack.
    """
    missing = [name for name in wanted if name not in shapes and name not in optional]
    unknown = [name for name in shapes if name not in wanted]
    unequal = [
        f"{name} is {list(shapes[name])} instead of {list(wanted[name])}"
        for name in wanted
        if name in shapes and shapes[name] != wanted[name]
    ]
    return "; ".join(
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (unequal, "of another shape"))
        if names
    )


def stream_into(
    module: nn.Module,
    weights: PlainWeights,
    *,
    convert: Convert,
    dtype: torch.dtype,
    device: torch.device,
    device_of: Callable[[str], torch.device] | None = None,
    placed: Callable[[str], None] | None = None,
    rows: Rows | None = None,
) -> None:
    """Fill a module that `check_fit` has accepted. Parameters are loaded to `device`, frozen; floats cast to `dtype`.

    Args:
        module: module on the meta device; tensors that the files lack become zeros.
        weights: the tensors in the files.
        convert: converts each tensor of the files to tensors of the module.
        dtype: number format of floating-point parameters and buffers.
        device: device to which the tensors are loaded, unless `device_of` is given.
        device_of: returns the device for a tensor of the module, by its name.
        placed: called with the name of each tensor of the module once it is loaded, for example to quantize it.
        rows: cuts each tensor to what is kept of it; of a weight without scales, the rest is not read. None: all.
    """
    lacking = set(module.state_dict())
    for source in weights.entries:
        for name, part in convert(source, weights.read(source, device=device, dtype=dtype)).items():
            part = part if rows is None else rows(name, part)
            kept_dtype = dtype if part.is_floating_point() else part.dtype
            target = torch.empty(part.shape, dtype=kept_dtype, device=device_of(name) if device_of else device)
            set_tensor(module, name, target.copy_(part))
            del target  # `placed` may replace the tensor: no other reference may keep its memory
            lacking.discard(name)
            if placed is not None:
                placed(name)
    for name in lacking:
        set_tensor(module, name, torch.zeros_like(module.get_buffer(name), device=device))


def set_tensor(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter or buffer, whatever its device; parameters become frozen."""
    parent_name, _, leaf = name.rpartition(".")
    parent = module.get_submodule(parent_name)
    if leaf in parent._parameters:
        setattr(parent, leaf, nn.Parameter(value, requires_grad=False))
    else:
        setattr(parent, leaf, value)
