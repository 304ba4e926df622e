"""Which rows a rank holds."""

from __future__ import annotations

import pytest
import torch

from toolkit.parallel.weight_layout import WholeWeights, rows_of


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("num_rows", [1, 2, 5, 8, 12])
def test_rows_are_dealt_as_torch_chunks_them(num_rows: int, count: int) -> None:
    rows = torch.arange(num_rows)
    mine = [rows[rows_of(num_rows, position, count)] for position in range(count)]
    assert torch.equal(torch.cat(mine), rows)
    for part, chunk in zip(mine, torch.chunk(rows, count), strict=False):
        assert torch.equal(part, chunk)


def test_a_single_process_holds_everything_and_needs_nobody() -> None:
    layout, weight = WholeWeights(), torch.nn.Parameter(torch.ones(3, 2))
    assert layout.own([weight])[0] is weight
    assert torch.equal(layout.whole(weight), layout.local(weight))
    assert layout.piece(weight).rows == layout.cut(3) == slice(0, 3)
