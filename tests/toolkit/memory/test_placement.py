from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.memory.layer_offload import RING_SIZE, choose_streamed
from toolkit.memory.placement import block_names, choose_placement, share_for_free_memory, share_that_fits


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.pairs = nn.ModuleList(nn.Linear(4, 8) for _ in range(2))
        self.singles = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))


def _model() -> Model:
    with torch.device("meta"):
        return Model().requires_grad_(False)


def test_blocks_are_the_members_of_the_models_lists_in_order() -> None:
    names = block_names(_model())
    assert names[:3] == ["pairs.0", "pairs.1", "singles.0"]
    assert len(names) == 14


def test_tensors_of_streamed_blocks_are_loaded_to_the_host_and_no_others() -> None:
    model, card = _model(), torch.device("cuda")
    placement = choose_placement(model, block_names(model), share=1.0, device=card)
    assert placement.device_of("singles.1.weight") == torch.device("cpu")
    assert placement.device_of("first.weight") == card
    some = choose_placement(model, ["singles.1", "singles.11"], share=1.0, device=card)
    assert some.device_of("singles.10.weight") == card


@pytest.mark.parametrize("free", [300, 500, 900, 1500, 3000])
def test_the_share_that_fits_fits_with_the_ring(free: int) -> None:
    sizes, rest = [200] * 4 + [100] * 12, 50
    share = share_that_fits(sizes, rest=rest, free=free)
    streamed = choose_streamed(sizes, share)
    resident = sum(size for index, size in enumerate(sizes) if index not in streamed)
    ring = RING_SIZE * max(sizes) if streamed else 0
    assert share == 1.0 or resident + rest + ring <= free
    assert (share == 0) == (sum(sizes) + rest <= free)


def test_without_a_card_nothing_needs_to_stream() -> None:
    model = _model()
    assert share_for_free_memory(model, block_names(model), bits_per_weight=16, device=torch.device("cpu")) == 0
