"""n ranks with accumulation k are one rank with n times k."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.small_run import TEXT_WIDTH, small_model
from tests.toolkit.parallel.fake_ranks import FakeRanks, run_ranks
from toolkit.config import TrainConfig
from toolkit.errors import Interrupted
from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.output.events import EventLog, read_events
from toolkit.parallel.ranks import FirstRankFailed, OneProcess, Ranks, done_by_first, first_goes_ahead
from toolkit.randomness import Draws
from toolkit.runtime.progress import Progress
from toolkit.runtime.stop import StopRequest
from toolkit.train.learner import build_learner
from toolkit.train.loop import Loop
from toolkit.train.recorder import Recorder
from toolkit.train.step import Stepper
from toolkit.train.tasks.task import Ending
from toolkit.train.trainable import TransformerWeights

DRAWS = Draws(3)
STEPS = 3
_MAKING = threading.Lock()


class _Feeder:
    """Batches made of nothing but their number, some of one sample and some of two."""

    def __init__(self, accumulation: int, ranks: Ranks) -> None:
        self.accumulation = accumulation
        self.ranks = ranks

    def batches(self, step: int) -> list[Batch]:
        return [
            self._batch((step * self.accumulation + part) * self.ranks.world + self.ranks.rank)
            for part in range(self.accumulation)
        ]

    def num_samples(self, step: int) -> int:
        per_step = self.accumulation * self.ranks.world
        return sum(1 + index % 2 for index in range(step * per_step, (step + 1) * per_step))

    def _batch(self, index: int) -> Batch:
        count = 1 + index % 2
        latents = DRAWS.normal((count, 64, 2, 2), "latents", index)
        embeds = DRAWS.normal((count, 3, TEXT_WIDTH), "embeds", index)
        return Batch(index, latents, Condition(embeds), torch.ones(count), num_tokens=4)


class _Note:
    """A task that writes down what it is asked to do."""

    command = None
    is_for_all = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def begin(self, step: int, stop: StopRequest) -> bool:
        self.asked.append(f"begin {step}")
        return False

    def is_due(self, step: int) -> bool:
        return step % 2 == 0

    def run(self, step: int, stop: StopRequest) -> None:
        self.asked.append(f"run {step}")

    def finish(self, step: int, ending: Ending, stop: StopRequest) -> None:
        self.asked.append(f"finish {step} {ending.name}")


def _stepper(accumulation: int, ranks: Ranks, **train: Any) -> tuple[Stepper, TransformerWeights]:
    config = TrainConfig.model_validate(
        {"steps": STEPS, "lr": 1e-3, "dtype": "fp32", "full_finetune": True, "gradient_accumulation": accumulation}
        | train
    )
    with _MAKING:  # from the generator that all threads share
        model = small_model()
    weights = TransformerWeights(model, save_format="safetensors")
    weights.unfreeze()
    learner = build_learner(model, weights, config, draws=DRAWS, ranks=ranks)
    return Stepper(learner, OBJECTIVES["velocity"].load().from_config(config), DRAWS, ranks), weights


def _trained(accumulation: int, ranks: Ranks, **train: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The loss of each step, and the weights after the last."""
    stepper, weights = _stepper(accumulation, ranks, **train)
    feeder = _Feeder(accumulation, ranks)
    losses = [
        stepper.train_step(step, feeder.batches(step), num_samples=feeder.num_samples(step)).loss
        for step in range(STEPS)
    ]
    return losses, [parameter.detach() for _, parameter in weights.named_parameters()]


def _close(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_ranks_learn_what_one_learns_with_twice_the_accumulation(accumulation: int) -> None:
    losses, weights = _trained(2 * accumulation, OneProcess())
    (first, one), (second, other) = run_ranks(2, lambda ranks: _trained(accumulation, ranks))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True)), "the ranks have parted"
    assert first == second
    assert _close(first, losses)
    assert _close(one, weights)


def test_gradients_are_summed_as_well_where_each_is_used_up_at_once() -> None:
    fused = {"fused_backward_pass": True, "max_grad_norm": 0}
    _, weights = _trained(2, OneProcess(), max_grad_norm=0)
    (_, one), (_, other) = run_ranks(2, lambda ranks: _trained(1, ranks, **fused))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
    assert _close(one, weights)


@pytest.fixture
def run_loop(tmp_path: Path) -> Iterator[Any]:
    """Runs the loop on one of two ranks; the second is asked to stop in the second step."""

    def run(ranks: FakeRanks) -> tuple[list[str], str]:
        stepper, _ = _stepper(1, ranks)
        task, stop, how = _Note(), StopRequest(), "done"
        feeder, progress = _Feeder(1, ranks), Progress()
        step_of = feeder.batches

        def batches(step: int) -> list[Batch]:
            if step == 1 and ranks.rank == 1:
                stop.request()
            return step_of(step)

        feeder.batches = batches  # type: ignore[method-assign]
        with (
            EventLog(tmp_path / f"{ranks.rank}.jsonl") as events,
            Recorder(events, progress, log_dir=None, log_every=1) as recorder,
        ):
            loop = Loop(feeder, stepper, (task,), recorder, progress, ranks)  # type: ignore[arg-type]
            try:
                loop.run(0, STEPS, stop)
            except Interrupted:
                how = "interrupted"
        return task.asked, how

    yield run


def test_a_request_to_stop_reaches_every_rank_and_only_the_first_does_the_tasks(run_loop: Any, tmp_path: Path) -> None:
    first, second = run_ranks(2, run_loop)
    assert first == (["begin 0", "run 2", "finish 2 STOPPED"], "interrupted")
    assert second == ([], "interrupted")
    logs = [list(read_events(tmp_path / f"{rank}.jsonl")) for rank in range(2)]
    assert [event["loss"] for event in logs[0]] == [event["loss"] for event in logs[1]]
    assert all(event["terms"] == {"velocity": event["loss"]} for event in logs[0])


def test_the_first_rank_goes_ahead_and_the_others_find_what_it_has_done() -> None:
    done: list[int] = []

    def work(ranks: FakeRanks) -> None:
        with first_goes_ahead(ranks):
            done.append(ranks.rank)

    run_ranks(3, work)
    assert done[0] == 0
    assert sorted(done) == [0, 1, 2]


def test_what_one_rank_does_for_all_is_done_once() -> None:
    done: list[int] = []

    def move(ranks: FakeRanks) -> str:
        done.append(ranks.rank)
        return "moved"

    def work(ranks: FakeRanks) -> tuple[str | None, list[int]]:
        return done_by_first(ranks, lambda: move(ranks)), list(done)

    assert run_ranks(3, work) == [("moved", [0]), (None, [0]), (None, [0])]


def test_a_failure_of_the_first_rank_reaches_all_that_wait_for_it() -> None:
    def fails() -> None:
        raise OSError("the disk is full")

    def does_for_all(ranks: FakeRanks) -> str:
        with pytest.raises((OSError, FirstRankFailed)) as raised:
            done_by_first(ranks, fails)
        return raised.typename

    def goes_ahead(ranks: FakeRanks) -> str:
        with pytest.raises((OSError, FirstRankFailed)) as raised, first_goes_ahead(ranks):
            assert ranks.is_first, "the others skip the block"
            fails()
        return raised.typename

    for work in (does_for_all, goes_ahead):
        assert run_ranks(3, work) == ["OSError", "FirstRankFailed", "FirstRankFailed"]
