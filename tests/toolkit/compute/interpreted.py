"""Every kernel beside its twin, run by Triton's interpreter on the CPU; prints a line of JSON for each case.

A process of its own: Triton decides when it is imported whether kernels are interpreted.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from toolkit.compute.kernels.norm import norm_and_round
from toolkit.compute.kernels.product import scaled_product
from toolkit.compute.kernels.rows import round_rows_to_int8
from toolkit.compute.kernels.twins import LowRank, norm_and_round_twin, scaled_product_twin
from toolkit.compute.rounding import RoundedRows, round_rows

GENERATOR = torch.Generator().manual_seed(0)
# Rows, inner size, columns, rank and dtype: less and more than a tile, and no multiple of one.
PRODUCTS = ((5, 64, 16, 0, torch.float32), (33, 70, 45, 4, torch.float32), (130, 70, 150, 17, torch.bfloat16))
# Samples, tokens, channels, samples that have a modulation of their own, and dtype.
NORMS = ((2, 5, 48, 2, torch.float32), (1, 7, 192, 1, torch.bfloat16), (3, 2, 64, 1, torch.float32))


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
    for batch, tokens, width, modulations, dtype in NORMS:
        x = _normal(batch, tokens, width, dtype=dtype) + 0.3
        shift, weight = _normal(modulations, 1, width, dtype=dtype), 1 + _normal(modulations, 1, width, dtype=dtype)
        found_rows, twin = norm_and_round(x, shift, weight, 1e-6), norm_and_round_twin(x, shift, weight, 1e-6)
        steps = found_rows.rows.numbers.int() - twin.rows.numbers.int()
        _say(
            f"norm of {batch} samples",
            steps=float(steps.abs().max()),
            result=_apart(found_rows.rows.float(), twin.rows.float()),
            mean=_apart(found_rows.mean, twin.mean),
            rstd=_apart(found_rows.rstd, twin.rstd),
        )


if __name__ == "__main__":
    main()
