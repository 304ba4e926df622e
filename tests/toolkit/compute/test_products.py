"""toolkit.compute.int8, fp8, rounding and function: products with weights that have a scale per row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from toolkit.compute.choices import COMPUTES
from toolkit.compute.int8 import int8_product, padded
from toolkit.compute.rounding import round_rows
from toolkit.compute.row_product import RowProduct
from toolkit.compute.use import use_compute
from toolkit.quantize.formats import FORMATS
from toolkit.quantize.frozen_linear import FrozenLinear

# Formats of stored weights, with what multiplies them.
EIGHT_BIT = {qtype: name for name, row in COMPUTES.items() for qtype in row.products}
SQNR_DB = {"int8": 36.0, "fp8": 27.0}  # of one product with normal factors
IN, OUT = 80, 48


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _layer(qtype: str, *, bias: bool = False, outliers: int = 0) -> FrozenLinear:
    weight = 0.1 * _normal(OUT, IN)
    weight[:outliers] *= 20
    offset = _normal(OUT) if bias else None
    layer = FrozenLinear(FORMATS[qtype].quantize(weight), qtype=qtype, in_features=IN, bias=offset)
    assert use_compute(layer, EIGHT_BIT[qtype]) == 1
    return layer


def _sqnr(found: Tensor, exact: Tensor) -> float:
    return float(20 * torch.log10(exact.norm() / (found.float() - exact).norm()))


@pytest.mark.parametrize("qtype", EIGHT_BIT)
@pytest.mark.parametrize("num_tokens", [1, 2, 17, 600])
def test_output_and_gradient_are_those_of_the_stored_weight_up_to_rounding(qtype: str, num_tokens: int) -> None:
    layer, x = _layer(qtype, bias=True), _normal(2, num_tokens, IN, seed=1).requires_grad_()
    output = layer(x)
    gradient = _normal(*output.shape, seed=2)
    (found,) = torch.autograd.grad(output, x, gradient)
    output, weight = output.detach(), layer.dequantize(torch.float32)
    assert layer.bias is not None
    assert _sqnr(output - layer.bias, x.detach() @ weight.T) >= SQNR_DB[EIGHT_BIT[qtype]]
    assert _sqnr(found, gradient @ weight) >= SQNR_DB[EIGHT_BIT[qtype]]


@pytest.mark.parametrize("qtype", EIGHT_BIT)
def test_rows_that_are_larger_cost_the_other_rows_nothing(qtype: str) -> None:
    layer, x = _layer(qtype, outliers=4), _normal(64, IN, seed=1)
    exact = x @ layer.dequantize(torch.float32).T
    assert _sqnr(layer(x)[:, 4:], exact[:, 4:]) >= SQNR_DB[EIGHT_BIT[qtype]]


@pytest.mark.parametrize("qtype", EIGHT_BIT)
def test_only_the_stored_weight_waits_for_backward_and_checkpointing_gives_the_same_bits(qtype: str) -> None:
    layer, x = _layer(qtype), _normal(9, IN, seed=1).bfloat16().requires_grad_()
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = layer(x)
    assert {tensor.data_ptr() for tensor in kept} == {buffer.data_ptr() for buffer in layer.buffers()}
    recomputed: Any = checkpoint(layer, x, use_reentrant=False)
    (one,) = torch.autograd.grad(output.sum(), x)
    (other,) = torch.autograd.grad(recomputed.sum(), x)
    assert output.dtype == one.dtype == torch.bfloat16
    assert torch.equal(output, recomputed)
    assert torch.equal(one, other)


def test_a_layer_can_be_compiled() -> None:
    layer, x = _layer("int8"), _normal(9, IN, seed=1)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))


def test_sums_of_integers_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randint(-127, 128, (33, 70), generator=generator, dtype=torch.int8)
    right = torch.randint(-127, 128, (48, 70), generator=generator, dtype=torch.int8)
    exact = left.int() @ right.T.int()
    assert torch.equal(int8_product(left, right.T), exact)
    one, other = padded(left[:3], right.T)
    assert len(one) > 16
    assert one.shape[1] % 8 == other.shape[1] % 8 == 0
    assert other.stride(0) == 1
    assert torch.equal(int8_product(one, other)[:3, :48], exact[:3])


@pytest.mark.parametrize("qtype", EIGHT_BIT)
def test_products_write_to_columns_and_add_to_what_is_there(qtype: str) -> None:
    layer, x, gradient = _layer(qtype), _normal(9, IN, seed=1), _normal(9, OUT, seed=2)
    product: RowProduct = COMPUTES[EIGHT_BIT[qtype]].product_for(qtype)
    wide, there = torch.zeros(9, 60), _normal(9, IN, seed=3)
    qweight, scale = layer.get_buffer("qweight"), layer.get_buffer("scale")
    product.forward(x, qweight, scale, out=wide[:, 4:52])
    assert torch.equal(wide[:, 4:52], layer(x))
    assert not wide[:, :4].any()
    assert not wide[:, 52:].any()
    added = product.backward(gradient, qweight, scale, into=there.clone())
    assert torch.allclose(added, there + product.backward(gradient, qweight, scale), atol=1e-5)


def test_a_rotation_keeps_a_larger_channel_from_taking_the_steps_of_the_others() -> None:
    x = _normal(64, IN, seed=1)
    x[:, 3] *= 50
    errors = []
    for qtype in ("int8", "convrot8"):
        layer = _layer(qtype)
        weight = layer.dequantize(torch.float32)
        weight[:, 3] = 0  # what it adds itself is large, and hides the others' error
        turned = layer(x) - x[:, 3:4] * layer.dequantize(torch.float32)[:, 3]
        errors.append(_sqnr(turned, x @ weight.T))
    assert errors[1] > errors[0] + 3


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_rounded_rows_use_the_whole_range_and_leave_the_input_alone(dtype: torch.dtype) -> None:
    x = torch.cat([_normal(5, IN), torch.zeros(1, IN)])
    before, rounded = x.clone(), round_rows(x, dtype, times=torch.ones(IN))
    largest = torch.iinfo(dtype).max if dtype == torch.int8 else torch.finfo(dtype).max
    assert torch.equal(x, before)
    assert rounded.numbers.float().abs().amax(dim=1).tolist() == [largest] * 5 + [0]
    assert (rounded.float() - x).abs().max() <= 0.07 * x.abs().max()


@pytest.mark.parametrize("qtype", EIGHT_BIT)
def test_what_is_not_a_number_is_not_hidden(qtype: str) -> None:
    layer, x = _layer(qtype), _normal(9, IN, seed=1)
    x[2, 5] = float("nan")
    assert layer(x).isnan().all(dim=1).tolist() == [row == 2 for row in range(9)]
