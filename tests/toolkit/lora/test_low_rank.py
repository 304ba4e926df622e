"""toolkit.lora.commands.low_rank"""

from __future__ import annotations

import pytest
import torch

from toolkit.lora.commands.low_rank import Goal, nearest, reduced

VALUES = [8.0, 4.0, 2.0, 1.0, 0.5]  # their sum is 15.5, that of their squares 85.25


@pytest.mark.parametrize(
    ("goal", "rank"),
    [
        (Goal(2), 2),
        (Goal(energy=0.95), 3),
        (Goal(threshold=1.5), 3),
        (Goal(threshold=100.0), 1),
        (Goal(ratio=0.2), 3),
        (Goal(ratio=1.0), 1),
        (Goal(quantile=0.95), 3),
        (Goal(quantile=0.01), 1),
        (Goal(2, threshold=0.75), 2),
        (Goal(), 5),
    ],
    ids=str,
)
def test_a_goal_chooses_the_rank_by_the_singular_values(goal: Goal, rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 5, generator=generator).double())[0] for n in (7, 5))
    delta = left @ torch.diag(torch.tensor(VALUES).double()) @ right.T  # [7, 5]
    update, lost = nearest(delta, goal)
    assert update.rank == rank
    wanted = (sum(value**2 for value in VALUES[rank:]) / sum(value**2 for value in VALUES)) ** 0.5
    assert lost == pytest.approx(wanted, abs=1e-6)
    assert reduced(nearest(delta, Goal())[0], goal)[0].rank == rank
