"""Loads a frozen module from its files, quantizing its linear layers one by one as they are read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.quantize.formats import FORMATS
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.quantize.quantized_cache import DamagedEntry, Place, keep_entry, read_entry
from toolkit.units import as_size
from toolkit.weights.streaming import Rows, set_tensor

Placed = Callable[[str], None]
DeviceOf = Callable[[str], torch.device]
# Loads every tensor of a module to a device, and calls back with the name of each once it is loaded.
Fill = Callable[[torch.device, Placed | None], object]


@dataclass(frozen=True)
class Quantization:
    """How the linear layers of a frozen module are quantized.

    Attributes:
        qtype: number format, a key of `QTYPES`.
        layers: names of the linear layers to quantize; it is an error if one of them cannot be.
        entry: cache file that keeps the quantized module for later starts; None for no cache.
        blocks: names of the module's blocks in the order of the forward pass; the file keeps each in one piece.
        on_cpu: whether to quantize in host memory, so that no layer is ever on the GPU in full precision.
        notify: called with lines for the user.
        count: called with the number of quantized layers, of how many, and the word `layers`.
    """

    qtype: str
    layers: tuple[str, ...]
    entry: Path | None = None
    blocks: tuple[str, ...] = ()
    on_cpu: bool = False
    notify: Callable[[str], None] = print
    count: Callable[[int, int, str], None] = lambda done, total, unit: None


def fill_frozen(
    module: nn.Module,
    fill: Fill,
    *,
    device: torch.device,
    device_of: DeviceOf | None = None,
    quantization: Quantization | None,
    rows: Rows | None = None,
) -> None:
    """Load the frozen weights of an empty module, quantizing them if asked.

    With quantization, memory holds what has been quantized so far and one tensor in full precision. If the cache has
    the quantized module, `fill` is not called; on the CPU, its tensors are then a map of the file.

    Args:
        module: a module with parameters on the meta device.
        fill: usually `stream_into` with its other arguments bound; its second argument is `placed`.
        device: the device that the module is used on, and quantized on.
        device_of: maps a tensor's name to the device to keep it on; None for `device`.
        quantization: how to quantize the module; None leaves the weights as they are.
        rows: cuts each tensor to what this process keeps; `fill` does so as well. A part is not cached. None: all.

    Raises:
        UserError: the qtype is unknown, or weights are not finite.
        RuntimeError: a layer was left in full precision.
    """
    device_for = device_of or (lambda name: device)
    if quantization is None:
        fill(device, None)
    elif not _from_cache(module, quantization, Place(device, device_for, rows)):
        _quantize_while(module, fill, device=device, device_of=device_for, quantization=quantization)
        if quantization.entry is not None and rows is None:
            quantization.notify(keep_entry(quantization.entry, module, quantization.blocks))
    stored = module.state_dict().keys()
    for name, buffer in list(module.named_buffers()):
        if name not in stored:  # computed rather than loaded, such as the frequencies of position embeddings
            set_tensor(module, name, buffer.to(device_for(name)))


def linear_layers(module: nn.Module, blocks: Iterable[str]) -> list[str]:
    """Names of the linear layers inside these blocks, in the module's order. Cache keys depend on names and order."""
    prefixes = tuple(f"{block}." for block in blocks)
    return [
        name for name, layer in module.named_modules() if isinstance(layer, nn.Linear) and name.startswith(prefixes)
    ]


def quantize_layer(module: nn.Module, name: str, qtype: str) -> None:
    """Replace a linear layer by a FrozenLinear.

    Raises:
        UserError: the qtype is unknown, or the weight has values that are not finite.
    """
    linear = module.get_submodule(name)
    if qtype not in FORMATS:
        raise UserError(f"model.qtype: unknown value `{qtype}`. Known: {', '.join(FORMATS)}")
    if type(linear) is not nn.Linear:
        raise RuntimeError(f"{name}: a {type(linear).__name__} cannot be quantized")
    buffers = FORMATS[qtype].quantize(linear.weight.detach())
    if not all(_is_finite(buffer) for buffer in buffers.values()):
        raise UserError(f"{name}: cannot be quantized to {qtype}: its weights are not all finite. Check the file.")
    bias = None if linear.bias is None else linear.bias.detach()
    sizes = {"in_features": linear.in_features, "out_features": linear.out_features}  # buffers may hold some rows only
    module.set_submodule(name, FrozenLinear(buffers, qtype=qtype, bias=bias, **sizes))


def _quantize_while(
    module: nn.Module, fill: Fill, *, device: torch.device, device_of: DeviceOf, quantization: Quantization
) -> None:
    layers = {f"{name}.weight": name for name in quantization.layers}
    num_done = 0

    def placed(name: str) -> None:
        nonlocal num_done
        if name in layers:
            quantize_layer(module, layers[name], quantization.qtype)
            _move_buffers(module.get_submodule(layers[name]), device_of(name))
            num_done += 1
            quantization.count(num_done, len(layers), "layers")
        else:
            set_tensor(module, name, _tensor(module, name).to(device_of(name)))

    fill(torch.device("cpu") if quantization.on_cpu else device, placed)
    left = [name for name in quantization.layers if not isinstance(module.get_submodule(name), FrozenLinear)]
    if left:
        raise RuntimeError(f"{len(left)} layers were left unquantized, such as {left[0]}")


def _from_cache(module: nn.Module, quantization: Quantization, place: Place) -> bool:
    entry, blocks, notify = quantization.entry, quantization.blocks, quantization.notify
    if entry is None or not entry.is_file():
        return False
    try:
        found = read_entry(
            entry, module, qtype=quantization.qtype, layers=quantization.layers, blocks=blocks, place=place
        )
    except DamagedEntry as error:
        with contextlib.suppress(OSError):  # if it cannot be deleted, keep_entry fails too, and tells the user
            entry.unlink(missing_ok=True)
        notify(f"{entry}: the quantized weights are damaged and will be computed again: {error}")
        return False
    notify(f"quantized weights ({quantization.qtype}, {as_size(found.num_bytes)}) read from {entry}")
    if not found.is_laid_out and place.rows is None:
        notify(f"they lie as an earlier version wrote them, and are written anew: {keep_entry(entry, module, blocks)}")
    return True


def _move_buffers(layer: nn.Module, device: torch.device) -> None:
    """Move all buffers but not the bias, which may not have been loaded yet."""
    for name, buffer in layer.named_buffers(recurse=False):
        setattr(layer, name, buffer.to(device))


def _tensor(module: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), leaf)
    return tensor


def _is_finite(buffer: Tensor) -> bool:
    return not buffer.is_floating_point() or bool(buffer.isfinite().all())
