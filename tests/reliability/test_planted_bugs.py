"""The suite's own test: with a bug planted, killing a run must show it."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.cases import Case
from tests.reliability.fork_server import ForkServer
from tests.reliability.kill_sweep import sweep_all
from tests.reliability.planted_bugs import BUGS
from tests.reliability.results import Results
from tests.reliability.scale import SEED

# Has everything that a bug may spoil: an average, accumulation, dropout, a schedule that moves, samples, caches.
CASE = Case("lora", "adamw", has_ema=True, accumulation=2, number=6, steps=5)
MOST_KILLS = 40


def test_every_planted_bug_turns_the_sweep_red(
    tmp_path: Path, smallest_model: Path, servers: list[ForkServer], results: Results
) -> None:
    reports = sweep_all(
        [(CASE, bug) for bug in BUGS.values()],
        MOST_KILLS,
        servers=servers,
        model=smallest_model,
        folder=tmp_path,
        seed=SEED,
        stop_at_fault=True,
    )
    found = {bug: report.kills.total() for bug, report in zip(BUGS, reports, strict=True) if report.faults}
    results.add(
        "Planted bugs",
        **{bug: f"found after {kills} {'kill' if kills == 1 else 'kills'}" for bug, kills in found.items()},
    )
    missed = BUGS.keys() - found
    assert not missed, f"nothing was noticed of: {', '.join(sorted(missed))}"
    assert len(found) >= 8
