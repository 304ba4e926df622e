from __future__ import annotations

import torch
from torch import nn

from toolkit.memory.placement import Placement, Split, block_names, choose_placement, split_over


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


CARDS = tuple(torch.device("cuda", index) for index in range(2))


def _counts(placement: Placement) -> list[int]:
    return [placement.cards.count(card) for card in CARDS]


def test_blocks_are_where_the_plan_says_and_the_rest_is_on_the_first_card() -> None:
    model = _model()
    placement = split_over(model, block_names(model), split=Split(CARDS, (3, 11)))
    found = [placement.device_of(f"{name}.weight") for name in ("pairs.1", "singles.0", "singles.1", "singles.11")]
    assert found == [CARDS[0], CARDS[0], CARDS[1], CARDS[1]]
    assert placement.device_of("first.weight") == CARDS[0]


def test_without_a_plan_for_the_model_blocks_are_split_by_their_weights_and_the_cards_memory() -> None:
    model = _model()
    names = block_names(model)
    # 20 weights outside the blocks, 40 in each of 2 pairs, 20 in each of 12 single blocks
    for counts in (None, (1, 2)):
        assert _counts(split_over(model, names, split=Split(CARDS, counts))) == [6, 8]
    assert _counts(split_over(model, names, split=Split(CARDS), rooms=[3, 1])) == [10, 4]
