"""toolkit.quantize.frozen_linear"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from toolkit.quantize.formats import FORMATS
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.quantize.qtypes import QTYPES

IN, OUT = 70, 48


def _layer(qtype: str, *, bias: bool = False) -> FrozenLinear:
    generator = torch.Generator().manual_seed(0)
    weight = 0.1 * torch.randn(OUT, IN, generator=generator)
    offset = torch.randn(OUT, generator=generator) if bias else None
    return FrozenLinear(FORMATS[qtype].quantize(weight), qtype=qtype, in_features=IN, bias=offset)


def _input(dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(2, 9, IN, generator=torch.Generator().manual_seed(1)).to(dtype)
    return x.requires_grad_()


def _gradient(output: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(output.float().square().sum(), x)
    return gradient


@pytest.mark.parametrize("qtype", QTYPES)
@pytest.mark.parametrize("bias", [False, True])
def test_output_and_gradient_are_those_of_the_dequantized_weight(qtype: str, bias: bool) -> None:
    layer, x = _layer(qtype, bias=bias), _input()
    expected = functional.linear(x, layer.dequantize(torch.float32), layer.bias)
    output = layer(x)
    assert torch.allclose(output, expected, atol=1e-6)
    assert torch.allclose(_gradient(output, x), _gradient(expected, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("qtype", QTYPES)
def test_nothing_in_full_precision_waits_for_backward(qtype: str) -> None:
    layer, x = _layer(qtype), _input(torch.bfloat16)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x).sum().backward()
    buffers = {buffer.data_ptr() for buffer in layer.buffers()}
    assert {tensor.data_ptr() for tensor in kept} <= buffers


@pytest.mark.parametrize("qtype", ["int8", "qint4", "nf4"])
def test_checkpointed_and_compiled_layers_give_the_same_bits(qtype: str) -> None:
    layer, x = _layer(qtype), _input()
    output = layer(x)
    gradient = _gradient(output, x)
    recomputed = checkpoint(layer, x, use_reentrant=False)
    assert torch.equal(recomputed, output)
    assert torch.equal(_gradient(recomputed, x), gradient)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(compiled, output)
    assert torch.equal(_gradient(compiled, x), gradient)


def test_buffers_replaced_between_calls_are_what_the_next_call_reads() -> None:
    layer, x = _layer("int8"), _input()
    layer.qweight = torch.zeros_like(layer.get_buffer("qweight"))
    assert not layer(x).any()


def test_autocast_decides_the_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert _layer("nf4")(_input()).dtype == torch.bfloat16


@pytest.mark.parametrize("qtype", QTYPES)
def test_moving_a_model_to_another_dtype_keeps_the_weight(qtype: str) -> None:
    layer = _layer(qtype)
    before = layer.dequantize(torch.float32)
    moved: Any = nn.Sequential(layer).to(torch.bfloat16).to(torch.float32)[0]
    assert torch.allclose(moved.dequantize(torch.float32), before, rtol=0.02, atol=2e-3)


def test_there_is_no_weight_to_train_or_to_take_for_one() -> None:
    layer = _layer("int8", bias=True)
    assert layer.weight is None
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    assert set(layer.state_dict()) == {"qweight", "scale", "bias"}
    assert "qtype=int8" in repr(layer)
