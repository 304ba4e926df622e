"""toolkit.compute.wide: a CPU without products in bf16 multiplies in fp32, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toolkit.compute.wide import multiply_wide
from toolkit.runtime import devices
from toolkit.runtime.devices import autocast

CPU = torch.device("cpu")


def _results(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with autocast(CPU, dtype):
        output = layer(x)
    (gradient,) = torch.autograd.grad(output.float().square().sum(), x)
    return output.detach(), gradient


@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_layer_gives_what_it_gave_up_to_rounding(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(32, 24, bias=bias).bfloat16().requires_grad_(False)
    wanted = _results(layer, torch.bfloat16)
    monkeypatch.setattr(devices, "_has_bf16_products", lambda: False)
    multiply_wide(nn.Sequential(layer), CPU, torch.bfloat16)
    found = _results(layer, torch.bfloat16)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() < 1e-2 * other.norm()
    layer.requires_grad_(True)  # a layer that is trained has its class's pass
    assert torch.equal(_results(layer, torch.bfloat16)[0], wanted[0])
    assert set(layer.state_dict()) == {"weight", "bias"} - ({"bias"} if not bias else set())


def test_where_bf16_is_fast_layers_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_bf16_products", lambda: True)
    layer = nn.Linear(4, 4)
    multiply_wide(layer, CPU, torch.bfloat16)
    assert "forward" not in vars(layer)
