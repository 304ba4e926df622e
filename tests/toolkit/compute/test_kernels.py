"""toolkit.compute.kernels: what they compute is what their twins in plain torch do."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

from toolkit.compute.kernels import has_kernels
from toolkit.compute.kernels.twins import scaled_product_twin
from toolkit.compute.rounding import round_rows

# Steps: a number between two. The interpreter rounds to bf16 towards zero: the result is off by up to 2 ** -8.
LIMITS = {"steps": 1.0, "beside": 0.0, "result": 5e-3}


@pytest.mark.slow  # starts a program that imports torch and Triton
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton, see requirements-dev.txt")
def test_every_kernel_does_what_its_twin_does() -> None:
    command = [sys.executable, "-m", "tests.toolkit.compute.interpreted"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    cases = [json.loads(line) for line in lines]
    assert len(cases) == 12
    for case in cases:
        errors = {name: error for name, error in case.items() if name != "case"}
        assert all(error <= LIMITS[name] for name, error in errors.items()), case


def test_the_twin_computes_what_separate_operations_do() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (round_rows(torch.randn(rows, 48, generator=generator), torch.int8) for rows in (10, 7))
    product = scaled_product_twin(left, right.numbers.T, right.scale.T, dtype=torch.float32)
    assert torch.allclose(product, left.float() @ right.float().T, atol=1e-4)


def test_a_cpu_has_no_kernels() -> None:
    assert not has_kernels(torch.device("cpu"))
