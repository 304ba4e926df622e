"""The weights of a transformer with its network merged in, made one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from toolkit.lora.update import SizedTarget, swap_halves
from toolkit.models.base_model import StateDict
from toolkit.networks.files import is_swapped
from toolkit.networks.network import NAME, Network
from toolkit.parallel.deferred import defer
from toolkit.parallel.weight_layout import WeightLayout
from toolkit.quantize.frozen_linear import FrozenLinear


def merged_state(network: Network, strength: float) -> StateDict:
    """The transformer's weights under the names of its library, each computed when its values are asked for.

    Args:
        network: a network on a loaded transformer, which may be quantized or offloaded, or spread over ranks, which
            then ask for the same values in the same order: what was quantized is dequantized.
        strength: factor of the network's change.
    """
    transformer = network.model.transformer
    state: StateDict = {}
    for name, module in transformer.named_modules():
        if NAME not in name.split("."):
            own = _own_tensors(module, network.model.layout)
            state |= {f"{name}.{leaf}".lstrip("."): tensor for leaf, tensor in own.items()}
    for target in network.targets:
        for index, layer in enumerate(target.modules):
            key = f"{layer}.weight"
            like = torch.empty(state[key].shape, dtype=torch.float32, device="meta")
            state[key] = defer(like, partial(_merged, network, target, index, strength))
    return state


def _own_tensors(module: nn.Module, layout: WeightLayout) -> StateDict:
    """The tensors of a module itself that its state has, with the weight of a quantized layer in their place."""
    if isinstance(module, FrozenLinear):
        like = torch.empty(module.out_features, module.in_features, dtype=torch.float32, device="meta")
        bias: StateDict = {} if module.bias is None else {"bias": module.bias.detach()}
        return {"weight": defer(like, partial(_weight, module, layout)), **layout.deferred(bias)}
    found = dict(module.named_parameters(recurse=False))
    buffers = {
        name: buffer
        for name, buffer in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set
    }
    return layout.deferred({name: tensor.detach() for name, tensor in (found | buffers).items()})


def _weight(layer: nn.Module, layout: WeightLayout) -> Tensor:
    """The weight that a layer multiplies with, [rows, inputs], fp32."""
    if isinstance(layer, FrozenLinear):
        return layer.dequantize(torch.float32, layout.whole)
    assert isinstance(layer.weight, Tensor)
    return layout.whole(layer.weight).float()


@torch.no_grad()
def _merged(network: Network, target: SizedTarget, index: int, strength: float) -> Tensor:
    """The weight of one of a target's layers, [rows, inputs], fp32: its own and its rows of the target's change."""
    part, layout = network.parts[target.name], network.model.layout
    device = next(part.parameters()).device
    layers = tuple(network.model.transformer.get_submodule(name) for name in target.modules)
    whole = torch.cat([_weight(layer, layout).to(device) for layer in layers])
    with _gathered(part, layout):
        # A part works on the rows of the released weight.
        delta = part.delta(swap_halves(whole) if is_swapped(network.model, target) else whole)
    del whole
    rows = network.sites(target, layers)[index].rows(delta)
    weight = _weight(layers[index], layout).to(device)
    return torch.add(weight, rows, alpha=strength)  # not in place: it may be the model's own


@contextmanager
def _gathered(part: nn.Module, layout: WeightLayout) -> Iterator[None]:
    """Within the `with` block a part has whole weights, also where they are spread over the ranks."""
    held = [(module, dict(module._parameters)) for module in part.modules()]
    try:
        for module, parameters in held:
            for name, weight in parameters.items():
                if weight is not None and layout.is_spread(weight):
                    module._parameters[name] = nn.Parameter(layout.whole(weight), requires_grad=False)
        yield
    finally:
        for module, parameters in held:
            module._parameters.update(parameters)
