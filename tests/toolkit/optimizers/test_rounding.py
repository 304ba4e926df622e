from __future__ import annotations

import pytest
import torch

from toolkit.optimizers.rounding import join, round_stochastically, split
from toolkit.parallel.weight_layout import Piece, rows_of


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_value_becomes_one_of_its_two_neighbours_and_on_average_itself() -> None:
    value = 1 + 0.3 * 2**-7  # bf16 has steps of 2^-7 above 1
    for sign in (1, -1):
        rounded = round_stochastically(torch.full((40_000,), sign * value), _generator()).float()
        assert set(rounded.tolist()) == {sign * 1.0, sign * (1 + 2**-7)}
        assert abs(rounded.mean().item() - sign * value) < 2e-4


def test_values_that_bf16_has_stay_as_they_are() -> None:
    values = torch.randn(1000, generator=_generator()).bfloat16()
    assert torch.equal(round_stochastically(values.float(), _generator(1)), values)


def test_the_same_draw_rounds_the_same_way() -> None:
    values = torch.randn(1000, generator=_generator())
    assert torch.equal(round_stochastically(values, _generator(1)), round_stochastically(values, _generator(1)))
    assert not torch.equal(round_stochastically(values, _generator(1)), round_stochastically(values, _generator(2)))


def test_split_weights_join_to_what_they_were_bit_for_bit() -> None:
    exact = torch.cat([torch.randn(10_000, generator=_generator()), torch.tensor([0.0, -0.0, 1 + 2**-8, -1 - 2**-8])])
    weight, rest = split(exact)
    assert torch.equal(join(weight, rest).view(torch.int32), exact.view(torch.int32))
    assert (weight.float() - exact).abs().max() <= (exact.bfloat16().float() - exact).abs().max()


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_that_share_a_weight_round_it_as_one_process_does(count: int) -> None:
    values = torch.randn(7, 5)
    whole = round_stochastically(values, torch.Generator().manual_seed(3))
    for position in range(count):
        piece = Piece((7, 5), rows_of(7, position, count))
        mine = round_stochastically(values[piece.rows], torch.Generator().manual_seed(3), piece)
        assert torch.equal(mine, whole[piece.rows])
