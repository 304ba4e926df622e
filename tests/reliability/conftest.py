"""What the tests of this folder share: the smallest model, and the table of results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.results import RESULTS, Results
from tests.reliability.scale import IS_LONG
from tests.reliability.smallest_model import write_smallest_model

_results = Results()


@pytest.fixture(scope="session")
def smallest_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smallest_model(tmp_path_factory.mktemp("smallest") / "model")


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    yield _results
    if IS_LONG:
        _results.write(RESULTS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _results.sections:
        terminalreporter.section("reliability")
        terminalreporter.write_line(_results.text())
