"""toolkit.quantize.formats: what is promised for every number format."""

from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.quantize.formats import FORMATS, Buffers
from toolkit.quantize.formats.groups import NORMAL_FLOAT
from toolkit.quantize.formats.rotated import block_size, rotate
from toolkit.quantize.qtypes import QTYPES

# Relative error of normally distributed weights, as the QLoRA paper and the formats' step widths lead one to expect.
GAUSSIAN_ERROR = {
    8.0: 0.03,
    7.5: 0.013,
    7.25: 0.014,
    6.5: 0.025,
    6.25: 0.028,
    5.5: 0.05,
    5.25: 0.06,
    4.5: 0.10,
    4.25: 0.12,
    3.5: 0.22,
    3.25: 0.28,
    2.5: 0.5,
    2.25: 0.55,
}
RAGGED = [(7, 70), (5, 129), (1, 64), (1, 33), (3, 1)]
TRUE_QUANTO = ["qfloat8", "qint8", "qint4", "qint2"]


def _weight(rows: int, columns: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return (0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns))).to(dtype)


def _back(qtype: str, buffers: Buffers, in_features: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return FORMATS[qtype].dequantize(buffers, in_features=in_features, dtype=dtype)


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact.float()).norm() / exact.float().norm())


def _unpacked(packed: Any) -> Tensor:
    """The numbers of quanto's packed weights, as its own version in Python reads them."""
    values = torch.cat([packed._data >> shift & 2**packed.bits - 1 for shift in range(0, 8, packed.bits)])
    return values[: packed.shape[0]]


@pytest.mark.parametrize("qtype", QTYPES)
def test_the_error_of_normally_distributed_weights_is_that_of_the_bits(qtype: str) -> None:
    weight = _weight(256, 1024)
    error = _error(_back(qtype, FORMATS[qtype].quantize(weight), 1024), weight)
    assert 0 < error < GAUSSIAN_ERROR[QTYPES[qtype].bits_per_weight]


@pytest.mark.parametrize("qtype", QTYPES)
def test_a_weight_takes_the_bits_that_the_registry_says(qtype: str) -> None:
    buffers = FORMATS[qtype].quantize(_weight(64, 4096))
    codebook = buffers.pop("codebook", torch.empty(0))
    assert codebook.nbytes <= 2048
    bits = 8 * sum(buffer.nbytes for buffer in buffers.values()) / (64 * 4096)
    assert bits == pytest.approx(QTYPES[qtype].bits_per_weight, abs=0.01)


@pytest.mark.parametrize("qtype", QTYPES)
@pytest.mark.parametrize("shape", RAGGED)
def test_any_shape_can_be_held(qtype: str, shape: tuple[int, int]) -> None:
    weight = _weight(*shape)
    found = _back(qtype, FORMATS[qtype].quantize(weight), shape[1])
    assert found.shape == weight.shape
    assert _error(found, weight) < 0.6


@pytest.mark.parametrize("qtype", QTYPES)
def test_rows_do_not_depend_on_what_is_quantized_with_them(qtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = _weight(64, 192)
    whole = FORMATS[qtype].quantize(weight)
    monkeypatch.setattr("toolkit.quantize.formats.format._WEIGHTS_AT_ONCE", 1000)
    parts = FORMATS[qtype].quantize(weight)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    monkeypatch.setattr("toolkit.quantize.formats.groups._WEIGHTS_AT_ONCE", 1000)
    assert torch.equal(_back(qtype, parts, 192), _back(qtype, whole, 192))


@pytest.mark.parametrize("qtype", QTYPES)
def test_zeros_and_outliers_are_held(qtype: str) -> None:
    weight = torch.zeros(4, 128)
    assert torch.equal(_back(qtype, FORMATS[qtype].quantize(weight), 128), weight)
    weight = _weight(4, 128, torch.float32)
    weight[0, 0] = 3e4
    found = _back(qtype, FORMATS[qtype].quantize(weight), 128)
    assert found.isfinite().all()
    assert found[0, 0] == pytest.approx(3e4, rel=0.01)
    assert _error(found[1:], weight[1:]) < 0.6, "an outlier spoils its own row only"


@pytest.mark.parametrize("qtype", QTYPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_gives_the_same_weights_but_for_its_rounding(qtype: str, dtype: torch.dtype) -> None:
    buffers = FORMATS[qtype].quantize(_weight(64, 256))
    found = _back(qtype, buffers, 256, dtype)
    assert found.dtype == dtype
    assert _error(found, _back(qtype, buffers, 256)) < 0.006


@pytest.mark.parametrize("qtype", QTYPES)
def test_casting_a_module_does_not_touch_the_numbers(qtype: str) -> None:
    buffers = FORMATS[qtype].quantize(_weight(64, 256))
    floats = {name for name, buffer in buffers.items() if buffer.is_floating_point()}
    assert floats <= {"scale", "offset"}
    assert buffers["qweight"].shape[0] == 64


@pytest.mark.parametrize(("rotated", "plain"), [("convrot8", "int8"), ("convrotint4", "int4")])
def test_a_rotation_spreads_outliers(rotated: str, plain: str) -> None:
    """Every 97th input has weights 20 times as large, as the inputs of real models that stand out."""
    weight = _weight(64, 1024, torch.float32)
    weight[:, ::97] *= 20
    errors = [_error(_back(qtype, FORMATS[qtype].quantize(weight), 1024), weight) for qtype in (rotated, plain)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("columns", [1, 6, 64, 192, 1024, 6144])
def test_rotating_twice_gives_the_rows_again(columns: int) -> None:
    rows = torch.randn(3, columns, generator=torch.Generator().manual_seed(0))
    assert columns % block_size(columns) == 0 and (columns % 4 or block_size(columns) >= 4)
    assert torch.allclose(rotate(rotate(rows)), rows, atol=1e-5)


@pytest.mark.parametrize("qtype", TRUE_QUANTO)
@pytest.mark.parametrize("shape", [(64, 512), (7, 70), (64, 320)])
def test_quantos_formats_give_quantos_weights_bit_for_bit(
    qtype: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from optimum.quanto import freeze, qtypes, quantize
    from optimum.quanto.tensor.packed import PackedTensor

    # its own way to read them back compiles an extension into site-packages
    monkeypatch.setattr(PackedTensor, "unpack", _unpacked)

    weight = _weight(*shape, torch.float32)
    theirs: Any = torch.nn.Sequential(torch.nn.Linear(shape[1], shape[0], bias=False))
    theirs[0].weight.data = weight.clone()
    quantize(theirs, weights=qtypes[qtype])
    freeze(theirs)
    ours = _back(qtype, FORMATS[qtype].quantize(weight), shape[1])
    assert torch.equal(ours, theirs[0].weight.dequantize())


@pytest.mark.parametrize("qtype", TRUE_QUANTO)
def test_nothing_is_compiled_for_quantos_formats(qtype: str) -> None:
    from optimum.quanto.library.extensions import get_extension

    _back(qtype, FORMATS[qtype].quantize(_weight(64, 256)), 256)
    assert get_extension("quanto_cpp")._lib is None, "a job would compile into site-packages, silently, for a minute"


def test_normal_float_chooses_the_nearest_of_its_values() -> None:
    values = torch.tensor(NORMAL_FLOAT).bfloat16().float()
    weight = torch.linspace(-1, 1, 64).unsqueeze(0)  # [1, 64]: one group with scale 1
    nearest = values[(weight.unsqueeze(-1) - values).abs().argmin(dim=-1)]
    assert torch.equal(_back("nf4", FORMATS["nf4"].quantize(weight), 64), nearest)
