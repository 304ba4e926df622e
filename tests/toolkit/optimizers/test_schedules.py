"""toolkit.optimizers.schedules"""

from itertools import pairwise

import pytest

from toolkit.optimizers.schedule_choices import SCHEDULES
from toolkit.optimizers.schedules import learning_rate


def _rates(kind: str, *, warmup_steps: int = 0, min_lr: float = 0.0) -> list[float]:
    return [
        learning_rate(kind, step, lr=1.0, num_steps=100, warmup_steps=warmup_steps, min_lr=min_lr)
        for step in range(100)
    ]


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warm_up_rises_evenly_to_the_full_rate(kind: str) -> None:
    rates = _rates(kind, warmup_steps=10)
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_falling_schedules_fall_all_the_way(kind: str) -> None:
    rates = _rates(kind, min_lr=0.1)
    assert rates[0] == 1.0
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert learning_rate(kind, 100, lr=1.0, num_steps=100, min_lr=0.1) == pytest.approx(0.1)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert _rates("cosine")[50] == pytest.approx(0.5)


def test_constant_stays() -> None:
    assert _rates("constant") == [1.0] * 100
