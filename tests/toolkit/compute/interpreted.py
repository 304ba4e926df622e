"""Every kernel beside its twin, run by Triton's interpreter on the CPU; prints a line of JSON for each case.

A process of its own: Triton decides when it is imported whether kernels are interpreted.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from toolkit.compute import int8
from toolkit.compute.kernels.product import scaled_product
from toolkit.compute.kernels.rows import round_rows_to_int8
from toolkit.compute.kernels.twins import scaled_product_twin
from toolkit.compute.rounding import RoundedRows, round_rows
from toolkit.compute.row_product import LowRank

GENERATOR = torch.Generator().manual_seed(0)
# Rows, inner size, columns, rank and dtype: less and more than a tile, and no multiple of one.
PRODUCTS = ((5, 64, 16, 0, torch.float32), (33, 70, 45, 4, torch.float32), (130, 70, 150, 17, torch.bfloat16))


def _normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=GENERATOR).to(dtype)


def _integers(*shape: int) -> Tensor:
    return torch.randint(-127, 128, shape, generator=GENERATOR, dtype=torch.int8)


def _apart(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def _say(case: str, **errors: float) -> None:
    print(json.dumps({"case": case, **errors}))


def main() -> None:
    """Run all cases."""
    for num_rows, inner, num_columns, rank, dtype in PRODUCTS:
        left = RoundedRows(_integers(num_rows, inner), _normal(num_rows, 1).abs())
        weight, factors = _integers(num_columns, inner), _normal(1, num_columns).abs()
        update = None
        if rank:  # the second factor is a transposed one, as B of a LoRA is
            update = LowRank(100 * _normal(num_rows, rank, dtype=dtype), _normal(num_columns, rank, dtype=dtype).T)
        wide = torch.ones(num_rows, num_columns + 6, dtype=dtype)
        scaled_product(left, weight.T, factors, out=wide[:, 3:-3], update=update)
        expected = scaled_product_twin(left, weight.T, factors, dtype=dtype, update=update)
        beside = float((wide[:, :3] - 1).abs().sum() + (wide[:, -3:] - 1).abs().sum())
        _say(f"forward, rank {rank}", result=_apart(wide[:, 3:-3], expected), beside=beside)

        gradient = RoundedRows(_integers(num_rows, num_columns), _normal(num_rows, 1).abs())
        there = 1000 * _normal(num_rows, inner, dtype=dtype)
        expected = there + scaled_product_twin(gradient, weight, None, dtype=torch.float32)
        found = scaled_product(gradient, weight, None, out=there.clone(), adds=True)
        _say("backward, added", result=_apart(found, expected.to(dtype)))
    for width, dtype in ((70, torch.float32), (4100, torch.bfloat16)):  # less and more than are read at once
        x, times = _normal(3, width + 4, dtype=dtype)[:, 2:-2], _normal(width).abs()
        rounded, rows = round_rows_to_int8(x, times), round_rows(x, torch.int8, times=times)
        steps = rounded.numbers.int() - rows.numbers.int()
        x[0, -1] = float("nan")
        assert round_rows_to_int8(x).scale.isnan().flatten().tolist() == [True, False, False]
        _say(f"rows of {width}", steps=float(steps.abs().max()), result=_apart(rounded.float(), rows.float()))
    _compare_products()


def _compare_products() -> None:
    """The whole product with a LoRA, as a card computes it and as a CPU does."""
    num_rows, inputs, outputs, rank = 21, 64, 48, 5
    weight, scale = _integers(outputs, inputs), _normal(outputs, 1).abs()
    x, gradient, there = _normal(num_rows, inputs), _normal(num_rows, outputs), _normal(num_rows, inputs)
    forward = LowRank(100 * _normal(num_rows, rank), _normal(outputs, rank).T)
    backward = LowRank(100 * _normal(num_rows, rank), _normal(rank, inputs))
    for name, product in (("int8", int8.INT8), ("convrot8", int8.ROTATED_INT8)):
        found: list[list[Tensor]] = []
        for has_kernels in (False, True):
            setattr(int8, "has_kernels", lambda _, answer=has_kernels: answer)  # noqa: B010
            out = torch.empty(num_rows, outputs)
            product.forward(x, weight, scale, out=out, update=forward)
            found.append([out, product.backward(gradient, weight, scale, into=there.clone(), update=backward)])
        for way, twin, mine in zip(("forward", "backward"), *found, strict=True):
            _say(f"{name} with a LoRA, {way}", result=_apart(mine, twin))


if __name__ == "__main__":
    main()
