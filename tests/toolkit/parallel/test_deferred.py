"""Deferred tensors: shapes at once, values later, one at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.parallel.deferred import defer, value_of


def _deferred(value: Tensor, made: list[int]) -> Tensor:
    def make() -> Tensor:
        made.append(len(value))
        return value

    return defer(value, make)


def test_what_a_model_does_with_its_weights_is_done_when_the_values_are_asked_for() -> None:
    made: list[int] = []
    q, k = (torch.arange(float(count * 3)).view(count, 3) for count in (2, 4))
    joined = torch.cat([_deferred(q, made), _deferred(k, made)], dim=0).to(torch.bfloat16)
    second = _deferred(k, made).chunk(2, dim=0)[1]
    swapped = torch.cat([second, second * 2])
    assert joined.shape == (6, 3)
    assert joined.dtype == torch.bfloat16
    assert joined.numel() * joined.element_size() == 36
    assert made == []
    assert torch.equal(value_of(joined), torch.cat([q, k]).bfloat16())
    assert made == [2, 4]
    assert torch.equal(value_of(swapped), torch.cat([k[2:], 2 * k[2:]]))
    assert type(value_of(joined)) is Tensor
