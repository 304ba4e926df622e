"""Weights from files into a module, one tensor at a time: beyond the module, memory holds one tensor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.tensor_index import TensorIndex

# From one tensor of the file to the tensors of the module that it becomes.
Convert = Callable[[str, Tensor], dict[str, Tensor]]
# Of a module's tensors, by name.
Shapes = Mapping[str, tuple[int, ...]]
_SHOWN = 3
# What programs write before the names of a component.
_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "vae.", "first_stage_model.", "transformer.")


def unchanged(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """For files that name their tensors as the module does."""
    return {name: tensor}


def recognized(index: TensorIndex, layouts: Mapping[str, Convert]) -> tuple[TensorIndex, Convert] | None:
    """The part of a file that is a component, and how it is converted; None if the component is not in it.

    Args:
        index: of the file.
        layouts: for each layout a tensor that only it has, and its conversion.
    """
    for prefix in _PREFIXES:
        for marker, convert in layouts.items():
            if f"{prefix}{marker}" in index.entries:
                return index.under(prefix), convert
    return None


def converted_shapes(weights: PlainWeights, convert: Convert) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the tensors of the files will have in the module. Reads no values."""
    return {
        name: tuple(tensor.shape)
        for source, entry in weights.entries.items()
        for name, tensor in convert(source, torch.empty(entry.shape, device="meta")).items()
    }


def check_fit(module: nn.Module, shapes: Shapes, *, path: Path, kind: str, optional: Collection[str] = ()) -> None:
    """Compare what a module has with what the files will give it.

    Args:
        module: the module; may be on the meta device.
        shapes: from `converted_shapes`.
        path: of the files, for messages.
        kind: what the module is, for messages: "transformer of FLUX.1".
        optional: names that files may lack.

    Raises:
        UserError: tensors are missing, unknown, or of other shapes; counted, the first few named.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = [name for name in wanted if name not in shapes and name not in optional]
    unknown = [name for name in shapes if name not in wanted]
    unequal = [
        f"{name} is {list(shapes[name])} and not {list(wanted[name])}"
        for name in wanted
        if name in shapes and shapes[name] != wanted[name]
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", unequal))
        if names
    ]
    if problems:
        raise UserError(
            f"{path}: its tensors are not those of the {kind}. {'; '.join(problems)}. The file is of another model or "
            "not whole: check model.arch and the path, or download it again."
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
) -> None:
    """Fill a module that `check_fit` has accepted. Its parameters come to `device` frozen; floats are cast to `dtype`.

    Args:
        module: on the meta device; tensors that the files lack become zeros.
        weights: the files.
        convert: names and parts of the module for each tensor of the files.
        dtype: of floating point parameters and buffers.
        device: where they go.
        device_of: another device for each tensor of the module, by its name.
        placed: called with the name of each tensor of the module when it is there, for example to quantize it.
    """
    lacking = set(module.state_dict())
    for source in weights.entries:
        for name, part in convert(source, weights.read(source, device=device, dtype=dtype)).items():
            kept_dtype = dtype if part.is_floating_point() else part.dtype
            target = torch.empty(part.shape, dtype=kept_dtype, device=device_of(name) if device_of else device)
            set_tensor(module, name, target.copy_(part))
            del target  # what `placed` makes of it may be the last to hold it
            lacking.discard(name)
            if placed is not None:
                placed(name)
    for name in lacking:
        set_tensor(module, name, torch.zeros_like(module.get_buffer(name), device=device))


def set_tensor(module: nn.Module, name: str, value: Tensor) -> None:
    """Put a value where a parameter or buffer stands, whatever its device; parameters come frozen."""
    parent_name, _, leaf = name.rpartition(".")
    parent = module.get_submodule(parent_name)
    if leaf in parent._parameters:
        setattr(parent, leaf, nn.Parameter(value, requires_grad=False))
    else:
        setattr(parent, leaf, value)
