"""The backward pass written by hand on weights that are multiplied in 8 bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from extensions_built_in.diffusion_models.flux2.lean import attach_lean
from tests.extensions_built_in.flux2.lean.test_gradients import adapted, errors, results

INT8: dict[str, Any] = {"quantize": True, "quantize_te": False, "quantize_cache": False, "compute": "int8"}


@pytest.mark.parametrize(
    ("qtype", "options"),
    [
        pytest.param(qtype, options, marks=() if qtype == kept_for else pytest.mark.torture, id=f"{qtype} {options}")
        for options, kept_for in (({}, "int8"), ({"batch": 2}, "convrot8"), ({"with_reference": True}, "int8"))
        for qtype in ("int8", "convrot8")
    ],
)
def test_gradients_are_those_of_autograd_in_the_same_products(qtype: str, options: dict[str, Any]) -> None:
    model, network = adapted(**INT8, qtype=qtype)
    wanted = results(model, network, **options)
    blocks = attach_lean(model.transformer, model.device_of, keeps=2.0)
    assert all(block.reason is None for block in blocks)
    kept = results(model, network, **options)
    assert max(errors(kept, wanted)) < 0.05  # what is rounded differs in its last digits, and so in some steps of 127
    attach_lean(model.transformer, model.device_of, keeps=1.0)
    assert all(torch.equal(*pair) for pair in zip(results(model, network, **options), kept, strict=True))
