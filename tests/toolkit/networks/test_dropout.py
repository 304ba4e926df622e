"""toolkit.networks.dropout: processes that share a sequence drop what a single one drops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from toolkit.networks.dropout import SHARE, TokenShare, dropout

TEXT, IMAGE, COUNT = 4, 8, 2
# The tokens that each process has of a sequence: of the text, of the image, and of both where a block joins them.
SEQUENCES = {
    TEXT: ([0, 1], [2, 3]),
    IMAGE: ([0, 1, 2, 3], [4, 5, 6, 7]),
    TEXT + IMAGE: ([0, 1, 4, 5, 6, 7], [2, 3, 8, 9, 10, 11]),
}


def _dropped(x: Tensor, position: int | None) -> Tensor:
    torch.manual_seed(5)
    share = None if position is None else TokenShare(position, COUNT, TEXT, IMAGE)
    with SHARE.set(share):
        first = dropout(x, 0.4, training=True)
        return torch.cat([first, dropout(x, 0.4, training=True)], dim=-1)  # the generator is where it must be


@pytest.mark.parametrize("length", SEQUENCES)
def test_each_process_drops_its_part_of_what_one_process_drops(length: int) -> None:
    x = torch.randn(3, length, 5)
    whole = _dropped(x, None)
    assert 0.2 < float((whole == 0).float().mean()) < 0.6
    for position, tokens in enumerate(SEQUENCES[length]):
        assert torch.equal(_dropped(x[:, tokens], position), whole[:, tokens])


def test_what_belongs_to_whole_samples_is_dropped_alike_everywhere() -> None:
    x = torch.randn(3, 16)
    whole = _dropped(x, None)
    assert all(torch.equal(_dropped(x, position), whole) for position in range(COUNT))


def test_nothing_is_dropped_outside_of_training() -> None:
    x = torch.randn(3, 4, 5)
    with SHARE.set(TokenShare(0, COUNT, TEXT, IMAGE)):
        assert torch.equal(dropout(x, 0.4, training=False), x)
        assert torch.equal(dropout(x, 0.0, training=True), x)
