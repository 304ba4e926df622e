"""Runs of every adapter, killed at random moments and inside their own writes: each resumes bit for bit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.reliability.adapter_cases import adapter_cases
from tests.reliability.fork_server import ForkServer
from tests.reliability.kill_sweep import Report, sweep_all
from tests.reliability.results import Results
from tests.reliability.scale import ADAPTER_KILLS, SEED
from tests.vision import write_encoder
from toolkit.adapters.choices import ADAPTERS


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "siglip", "siglip")


def test_every_adapter_is_killed_alone_and_beside_another(encoder: Path) -> None:
    cases = adapter_cases(encoder)
    assert {case.adapters for case in cases if len(case.adapters) == 1} == {(kind,) for kind in ADAPTERS}
    assert not any(case.crops_anew for case in cases)


def test_an_adapter_killed_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, smallest_model: Path, encoder: Path, servers: list[ForkServer], results: Results
) -> None:
    """Some four seconds of processor time for each of eight jobs."""
    began, total = time.monotonic(), Report()
    cases = adapter_cases(encoder)
    reports = sweep_all(
        [(case, None) for case in cases],
        ADAPTER_KILLS,
        servers=servers,
        model=smallest_model,
        folder=tmp_path,
        seed=SEED,
        stop_at_fault=False,
    )
    for number, report in enumerate(reports, 1):
        total.add(report)
        results.add("Adapters, killed", jobs=number, **total.figures(), seconds=round(time.monotonic() - began))
    assert not total.faults, "\n".join(total.faults)
    assert total.kills.total() >= len(cases) * ADAPTER_KILLS
