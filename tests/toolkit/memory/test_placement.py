from __future__ import annotations

import torch
from torch import nn

from toolkit.memory.placement import block_names, choose_placement


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
