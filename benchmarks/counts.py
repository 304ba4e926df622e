"""What a training step does, in counts that are the same on every machine: products, bytes kept, operators, reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

# Views move no data; these make tensors without filling them, or are bookkeeping of autograd.
_NO_WORK = {"aten::empty", "aten::empty_like", "aten::new_empty", "aten::new_empty_strided", "aten::_unsafe_view"}
_READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal", "aten::masked_select"}


class Operators(TorchDispatchMode):
    """Inside the `with` block, counts the operators that compute something, by name.

    Attributes:
        counts: operator -> how often it ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if not func.is_view and name not in _NO_WORK:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """Number of all operators."""
        return sum(self.counts.values())

    @property
    def host_reads(self) -> int:
        """Number of times that the host waits for a value of the device."""
        return sum(self.counts[name] for name in _READS)


def count_flops(run: Callable[[], object]) -> int:
    """Floating point operations of all matrix products and attentions, forward and backward."""
    mapping = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return int(counter.get_total_flops())


def count_kept(run: Callable[[], Any], *, shared: Iterable[Tensor]) -> tuple[int, Any]:
    """Bytes of the storages that a forward pass keeps for its backward pass, and what the pass returned.

    Args:
        run: the forward pass.
        shared: tensors that are not counted, such as weights and what all blocks are given.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in shared}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    return sum(kept.values()), result


@dataclass(frozen=True)
class Floor:
    """The least that a LoRA step has to multiply: each frozen weight forward and towards the input, for each token.

    Attributes:
        frozen: of the frozen weights of the blocks, 4 per weight and token.
        lora: of the LoRA: forward, towards the input and towards its weights, 6 per weight and token.
        attention: two products forward, five backward.
        outer: of the layers before and after the blocks.
    """

    frozen: int
    lora: int
    attention: int
    outer: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.frozen + self.lora + self.attention + self.outer


def floor_of(transformer: nn.Module, *, rank: int, num_text: int, num_image: int, batch: int = 1) -> Floor:
    """The floor of a FLUX.2 transformer with a LoRA on every linear layer of its blocks; q, k and v share A."""
    config: Any = transformer.config
    hidden = config.num_attention_heads * config.attention_head_dim
    text, image = batch * num_text, batch * num_image
    both, double, single = text + image, config.num_layers, config.num_single_layers
    stream = ((hidden, 3 * hidden), (hidden, hidden), (hidden, 6 * hidden), (3 * hidden, hidden))
    parallel = ((hidden, 9 * hidden), (4 * hidden, hidden))
    weights = both * (double * _products(stream) + single * _products(parallel))
    sides = both * rank * (double * _sides(stream) + single * _sides(parallel))
    attention = 4 * batch * (num_text + num_image) ** 2 * hidden * (double + single)
    channels = config.in_channels
    ends = 6 * image * channels * hidden + 2 * text * config.joint_attention_dim * hidden
    return Floor(4 * weights, 6 * sides, attention + attention * 5 // 2, ends)


def _products(linears: Iterable[tuple[int, int]]) -> int:
    return sum(inputs * outputs for inputs, outputs in linears)


def _sides(linears: Iterable[tuple[int, int]]) -> int:
    return sum(inputs + outputs for inputs, outputs in linears)


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))
