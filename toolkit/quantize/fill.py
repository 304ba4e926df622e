"""Fills a frozen module from its files, its linear layers quantized one by one as they come."""

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
from toolkit.quantize.quantized_cache import DamagedEntry, keep_entry, read_entry
from toolkit.units import as_size
from toolkit.weights.streaming import set_tensor

Placed = Callable[[str], None]
DeviceOf = Callable[[str], torch.device]
# Brings every tensor of a module to a device, and calls back with the name of each when it is there.
Fill = Callable[[torch.device, Placed | None], object]


@dataclass(frozen=True)
class Quantization:
    """How the linear layers of a frozen module are held in few bits.

    Attributes:
        qtype: key of `QTYPES`.
        layers: names of the linear layers; every one of them is quantized or an error is raised.
        entry: file that keeps the quantized module for the next start; None keeps none.
        on_cpu: quantize in host memory, so that no layer is on the GPU in full precision.
        tell: is given lines for the user.
        count: is told how many layers are quantized, of how many, and that they are layers.
    """

    qtype: str
    layers: tuple[str, ...]
    entry: Path | None = None
    on_cpu: bool = False
    tell: Callable[[str], None] = print
    count: Callable[[int, int, str], None] = lambda done, total, unit: None


def fill_frozen(
    module: nn.Module,
    fill: Fill,
    *,
    device: torch.device,
    device_of: DeviceOf | None = None,
    quantization: Quantization | None,
) -> None:
    """Give an empty module its frozen weights on `device`, quantized if asked.

    With quantization, memory holds what is quantized so far and one tensor in full precision; where an entry of the
    cache has the module, `fill` is not called.

    Args:
        module: its parameters are on the meta device.
        fill: usually `stream_into` with its other arguments bound; its second argument is `placed`.
        device: where the module is needed, and where it is quantized.
        device_of: where each of its tensors is kept, by name; unset, on `device`.
        quantization: None leaves the weights as they are.

    Raises:
        UserError: unknown qtype, or weights that are not numbers.
        RuntimeError: a layer was left in full precision.
    """
    where = device_of or (lambda name: device)
    if quantization is None:
        fill(device, None)
    elif not _from_cache(module, device_of=where, quantization=quantization):
        _quantize_while(module, fill, device=device, device_of=where, quantization=quantization)
        if quantization.entry is not None:
            quantization.tell(keep_entry(quantization.entry, module))
    stored = module.state_dict().keys()
    for name, buffer in list(module.named_buffers()):
        if name not in stored:  # computed and not read, such as the frequencies of position embeddings
            set_tensor(module, name, buffer.to(device))


def linear_layers(module: nn.Module, blocks: Iterable[str]) -> list[str]:
    """Names of the linear layers inside these blocks, in the module's order: cache keys depend on both."""
    prefixes = tuple(f"{block}." for block in blocks)
    return [
        name for name, layer in module.named_modules() if isinstance(layer, nn.Linear) and name.startswith(prefixes)
    ]


def quantize_layer(module: nn.Module, name: str, qtype: str) -> None:
    """Put a FrozenLinear in the place of a linear layer.

    Raises:
        UserError: unknown qtype, or the weight has values that are not finite.
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
    module.set_submodule(name, FrozenLinear(buffers, qtype=qtype, in_features=linear.in_features, bias=bias))


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


def _from_cache(module: nn.Module, *, device_of: DeviceOf, quantization: Quantization) -> bool:
    entry = quantization.entry
    if entry is None or not entry.is_file():
        return False
    try:
        num_bytes = read_entry(entry, module, qtype=quantization.qtype, layers=quantization.layers, device_of=device_of)
    except DamagedEntry as error:
        with contextlib.suppress(OSError):  # where it cannot go, a new one cannot be kept, and that is told
            entry.unlink(missing_ok=True)
        quantization.tell(f"{entry}: damaged quantized weights, they will be made again: {error}")
        return False
    quantization.tell(f"quantized weights ({quantization.qtype}, {as_size(num_bytes)}) read from {entry}")
    return True


def _move_buffers(layer: nn.Module, device: torch.device) -> None:
    """Without the bias, which may not have come yet."""
    for name, buffer in layer.named_buffers(recurse=False):
        setattr(layer, name, buffer.to(device))


def _tensor(module: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), leaf)
    return tensor


def _is_finite(buffer: Tensor) -> bool:
    return not buffer.is_floating_point() or bool(buffer.isfinite().all())
