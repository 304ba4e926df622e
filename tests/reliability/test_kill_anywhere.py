"""Runs of every network, optimizer and average, killed at random moments and inside their own writes."""

from __future__ import annotations

import time
from pathlib import Path

from tests.reliability.cases import cases
from tests.reliability.fork_server import ForkServer
from tests.reliability.kill_sweep import Report, sweep_all
from tests.reliability.results import Results
from tests.reliability.scale import FORK_CASES, FORK_KILLS, SEED


def test_a_run_killed_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, smallest_model: Path, servers: list[ForkServer], results: Results
) -> None:
    began = time.monotonic()
    chosen = cases(min(FORK_CASES, FORK_KILLS))
    kills = -(-FORK_KILLS // len(chosen))
    total = Report()
    reports = sweep_all(
        [(case, None) for case in chosen],
        kills,
        servers=servers,
        model=smallest_model,
        folder=tmp_path,
        seed=SEED,
        stop_at_fault=False,
    )
    for number, report in enumerate(reports, 1):  # the table is right at any time: a long form may be interrupted
        total.add(report)
        results.add("Forked runs, killed", jobs=number, **total.figures(), seconds=round(time.monotonic() - began))
    assert not total.faults, "\n".join(total.faults)
    assert total.kills.total() >= FORK_KILLS
