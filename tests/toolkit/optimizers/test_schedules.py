"""toolkit.optimizers.schedules"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from toolkit.config import TrainConfig
from toolkit.optimizers.schedule_choices import SCHEDULES
from toolkit.optimizers.schedules import schedule_of

FALLING = [name for name, row in SCHEDULES.items() if row.falls]


def _rates(kind: str, *, steps: int = 100, lr: float = 1.0, cooldown: float = 0.0, **params: Any) -> list[float]:
    train = {"lr": lr, "steps": steps, "lr_scheduler": kind, "lr_scheduler_params": params, "cooldown": cooldown}
    schedule = schedule_of(TrainConfig.model_validate(train))
    return [schedule(step) for step in range(steps + 1)]


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warm_up_rises_evenly_to_the_full_rate(kind: str) -> None:
    rates = _rates(kind, warmup_steps=10)
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_no_rate_is_above_lr_or_below_the_floor(kind: str) -> None:
    rates = _rates(kind, lr=0.5, min_lr=0.02, warmup_steps=0)
    assert all(0.02 - 1e-12 <= rate <= 0.5 + 1e-12 for rate in rates)


@pytest.mark.parametrize("kind", FALLING)
def test_falling_schedules_end_at_the_floor(kind: str) -> None:
    assert _rates(kind, min_lr=0.1)[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", sorted({*FALLING} - {"cosine_with_restarts"}))
def test_falling_schedules_fall_at_every_step(kind: str) -> None:
    rates = _rates(kind)
    assert rates[0] == 1.0
    assert all(later < earlier for earlier, later in pairwise(rates))


# The published laws, with step t of 100 after a warm-up of 20: 80 steps from 1 to 0.1.
LAWS: dict[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "constant": ({}, lambda t: 1.0),
    "linear": ({}, lambda t: 1 - 0.9 * t / 80),
    "cosine": ({}, lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * t / 80)) / 2),
    # T_i = 80 / 4
    "cosine_with_restarts": ({"num_cycles": 4}, lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * (t % 20) / 20)) / 2),
    "polynomial": ({"power": 1.5}, lambda t: 0.9 * (1 - t / 80) ** 1.5 + 0.1),
    "rex": ({}, lambda t: 0.1 + 0.9 * (1 - t / 80) / (0.5 + 0.5 * (1 - t / 80))),
    "step": ({"step_size": 30, "gamma": 0.5}, lambda t: max(0.1, 0.5 ** (t // 30))),
    "piecewise": ({"step_rules": "1:30,0.5:90,0.05"}, lambda t: 1.0 if t < 10 else 0.5 if t < 70 else 0.1),
}


@pytest.mark.parametrize("kind", sorted({*SCHEDULES} - {"constant_with_warmup"}))
def test_a_schedule_follows_its_law(kind: str) -> None:
    params, law = LAWS[kind]
    rates = _rates(kind, warmup_steps=20, min_lr=0.1, **params)
    assert rates[20:100] == pytest.approx([law(t) for t in range(80)], rel=1e-12)


@pytest.mark.parametrize("steps", [7, 90, 100, 999])
def test_restarts_come_at_whole_steps(steps: int) -> None:
    rates = _rates("cosine_with_restarts", steps=steps, num_cycles=3)
    rises = [step for step, (earlier, later) in enumerate(pairwise(rates[:steps]), 1) if later > earlier]
    assert rises == [math.ceil(steps / 3), math.ceil(2 * steps / 3)]


def test_rules_below_one_are_shares_of_the_run() -> None:
    shares, counts = (_rates("piecewise", step_rules=rules) for rules in ("1:0.29,0.1:0.58,0", "1:29,0.1:58,0"))
    assert shares == counts


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_cool_down_falls_evenly_from_the_rate_it_meets(kind: str) -> None:
    plain, cooled = _rates(kind, warmup_steps=5), _rates(kind, warmup_steps=5, cooldown=0.2)
    assert cooled[:81] == plain[:81]
    assert cooled[80:] == pytest.approx([plain[80] * (20 - step) / 20 for step in range(21)])
    assert cooled == _rates(kind, warmup_steps=5, cooldown=20)


@pytest.mark.parametrize("kind", FALLING)
def test_a_run_is_ended_early_from_the_rate_it_had(kind: str) -> None:
    """More of the same run: 60 of 100 steps, then a cool-down over 10."""
    whole = _rates(kind, steps=100)
    early = _rates(kind, steps=70, num_steps=100, cooldown=10)
    assert early[:61] == whole[:61]
    assert early[70] == 0


@pytest.mark.parametrize(
    ("train", "what"),
    [
        ({"cooldown": 2.5}, "neither a share"),
        ({"cooldown": 0.001, "steps": 100}, "less than one"),
        ({"cooldown": 200, "steps": 100}, "lower cooldown"),
        ({"lr_scheduler_params": {"warmup_steps": 60}, "cooldown": 0.5, "steps": 100}, "longer than the run"),
        ({"lr_scheduler": "cosine", "lr_scheduler_params": {"min_lr": 1}}, "is above lr"),
        ({"lr_scheduler": "cosine", "lr_scheduler_params": {"power": 2}}, "power"),
        ({"lr_scheduler": "step", "lr_scheduler_params": {"step_size": 0}}, "step_size"),
        ({"lr_scheduler": "polynomial", "lr_scheduler_params": {"power": 0}}, "power"),
        *(
            ({"lr_scheduler": "piecewise", "lr_scheduler_params": {"step_rules": rules}}, "step_rules")
            for rules in ("", "1:10", "x:10,1", "1:10,0.5:5,0.1", "1:10.5,1", "1:0.5,0.1:20,0", "-1:5,1", "1,1:5")
        ),
    ],
)
def test_settings_that_make_no_schedule_are_refused(train: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        TrainConfig.model_validate(train)
