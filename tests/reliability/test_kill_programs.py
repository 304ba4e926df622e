"""run.py, with the tiny FLUX.2 in the long form, killed at random moments and inside its own writes."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.reliability.bundles import valid_steps
from tests.reliability.faults import Aim
from tests.reliability.kill_sweep import AT_A_MOMENT
from tests.reliability.programs import start
from tests.reliability.results import Results
from tests.reliability.scale import IS_LONG, PROGRAM_KILLS, SEED
from tests.reliability.torn_files import torn_files
from tests.tiny import TINY, write_job
from toolkit.output.events import read_events
from toolkit.weights.tensor_files import read_tensors

STEPS, SAVE_EVERY = 24, 3
KILLS_PER_RUN = 10
LIMIT_S = 300
RESUMING = re.compile(r"resuming from step (\d+)")


@dataclass
class Whole:
    """The uninterrupted run."""

    model: Path
    output: Path
    losses: dict[int, float]
    counts: dict[str, int]
    training_s: float


@dataclass
class Outcome:
    """What became of one run that was killed."""

    kills: Counter[str] = field(default_factory=Counter)
    losses: int = 0
    faults: list[str] = field(default_factory=list)


def test_the_program_killed_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, smallest_model: Path, results: Results
) -> None:
    began = time.monotonic()
    whole = _run_uninterrupted(tmp_path / "whole", TINY if IS_LONG else smallest_model)
    workers = min(2, len(os.sched_getaffinity(0))) if IS_LONG else 1  # each has one more start than kills
    quotas = [len(range(worker, PROGRAM_KILLS, workers)) for worker in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        folders = [tmp_path / f"worker{worker}" for worker in range(workers)]
        outcomes = list(pool.map(lambda folder, quota: _kill_until(folder, quota, whole), folders, quotas))
    kills = sum((outcome.kills for outcome in outcomes), Counter())
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    results.add(
        "run.py, killed",
        kills=kills.total(),
        where=", ".join(f"{place} {count}" for place, count in sorted(kills.items())),
        logged_losses_compared_bit_by_bit=sum(outcome.losses for outcome in outcomes),
        faults=len(faults),
        seconds=round(time.monotonic() - began),
    )
    assert not faults, "\n".join(faults)
    assert kills.total() == PROGRAM_KILLS


def _write_job(folder: Path, model: Path) -> Path:
    folder.mkdir(parents=True)
    return write_job(
        folder,
        train={"steps": STEPS, "disable_sampling": False, "ema_config": {"use_ema": True, "ema_decay": 0.9}},
        datasets=[{"folder_path": str(folder / "images"), "resolution": 32, "cache_latents_to_disk": True}],
        save={"save_every": SAVE_EVERY, "max_step_saves_to_keep": 1},
        sample={"sample_every": 4, "prompts": ["a red circle"], "sample_steps": 1},
        model={"name_or_path": str(model)},
    )


def _run_uninterrupted(folder: Path, model: Path) -> Whole:
    job = _write_job(folder, model)
    process = start(job, folder / "log.txt", counts=folder / "counts.json")
    assert process.wait(LIMIT_S) == 0, (folder / "log.txt").read_text()
    output = folder / "output" / "job"
    events = list(read_events(output / "events.jsonl"))
    losses = {event["step"]: event["loss"] for event in events if event["kind"] == "step"}
    assert sorted(losses) == list(range(1, STEPS + 1))
    counts = json.loads((folder / "counts.json").read_text())
    return Whole(model, output, losses, counts, events[-1]["time"] - events[0]["time"])


def _kill_until(folder: Path, kills: int, whole: Whole) -> Outcome:
    """Kill one run after another until `kills` is reached."""
    outcome, draw = Outcome(), random.Random(f"{SEED}/{folder.name}")
    for number in itertools.count():
        left = kills - outcome.kills.total()
        if left <= 0 or outcome.faults:
            return outcome
        _kill_and_finish(folder / f"run{number}", min(left, KILLS_PER_RUN), draw, whole, outcome)
    raise AssertionError("never comes here")


def _kill_and_finish(folder: Path, kills: int, draw: random.Random, whole: Whole, outcome: Outcome) -> None:
    job, output = _write_job(folder, whole.model), folder / "output" / "job"
    for number in range(kills + 1):
        log = folder / f"start{number}.txt"
        newest = max(valid_steps(output), default=0)
        if number < kills:
            # Soon enough for the kills to come to be spread over the steps that are left.
            share = (1 - newest / STEPS) * min(1, 2 / (kills - number))
            killed = _start_and_kill(job, log, draw, outcome, whole, share=share)
        else:
            killed = False
            _expect(start(job, log).wait(LIMIT_S), 0, log, outcome)
        outcome.faults += [f"{log}: left {line}" for line in torn_files(folder)]
        outcome.faults += _judge_resume(log, newest)
        if not killed:
            break
    _judge_end(output, whole, outcome)


def _start_and_kill(job: Path, log: Path, draw: random.Random, outcome: Outcome, whole: Whole, *, share: float) -> bool:
    """Start the job; kill it at some moment once it is at work, or at some operation, within a share of a whole run.

    Returns whether it was killed.
    """
    aim = None
    is_first = not (job.parent / "output").exists()  # which fills the caches, or most of them
    if is_first or draw.random() < 0.6:
        others = sorted(whole.counts.keys() - {"cache"})
        place = "cache" if is_first else others[outcome.kills.total() % len(others)]  # each has its turn: kills are few
        aim = Aim(place, draw.randint(1, max(1, round(share * whole.counts[place]))))
    process = start(job, log, aim=aim, seed=draw.randrange(2**32))
    if aim is None:
        _wait_for_work(log)
        time.sleep(draw.uniform(0, share * whole.training_s))
        process.kill()
    code = process.wait(LIMIT_S)
    if code == 0:
        return False
    _expect(code, -signal.SIGKILL, log, outcome)
    outcome.kills[aim.place if aim else AT_A_MOMENT] += 1
    return True


def _expect(code: int, expected: int, log: Path, outcome: Outcome) -> None:
    if code != expected:
        outcome.faults.append(f"{log}: ended with {code}: {log.read_text(errors='replace')[-2000:]}")


def _wait_for_work(log: Path) -> None:
    limit = time.monotonic() + LIMIT_S
    while "== encode text ==" not in log.read_text(errors="replace") and time.monotonic() < limit:
        time.sleep(0.02)


def _judge_resume(log: Path, newest: int) -> list[str]:
    """A start that reached training says where it resumes, and why not from a newer bundle."""
    text = log.read_text(errors="replace")
    if "== train ==" not in text or not re.search(r"(?m)^(step \d+/|saved )", text):
        return []
    told = [int(step) for step in RESUMING.findall(text)]
    if told != ([newest] if newest else []):
        return [f"{log}: says that it resumes from {told}, and the newest valid bundle is of step {newest}"]
    return []


def _judge_end(output: Path, whole: Whole, outcome: Outcome) -> None:
    for event in read_events(output / "events.jsonl"):
        if event["kind"] == "step":
            outcome.losses += 1
            if event["loss"] != whole.losses[event["step"]]:
                outcome.faults.append(f"{output}: step {event['step']} has another loss")
    one, other = read_tensors(whole.output / "job.safetensors"), read_tensors(output / "job.safetensors")
    if one.keys() != other.keys() or any(not torch.equal(one[name], other[name]) for name in one):
        outcome.faults.append(f"{output}: the final weights differ")
