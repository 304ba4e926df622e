"""What the tests of this folder share: the smallest model, the fork servers, and the table of results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.reliability.fork_server import ForkServer
from tests.reliability.results import RESULTS, Results
from tests.reliability.scale import IS_LONG
from tests.reliability.smallest_model import write_smallest_model

MOST_SERVERS = 8  # of half a gigabyte each
_results = Results()


@pytest.fixture(scope="session")
def smallest_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smallest_model(tmp_path_factory.mktemp("smallest") / "model")


@pytest.fixture(scope="session")
def servers() -> Iterator[list[ForkServer]]:
    """One for each processor in the long form; what they import takes seconds, so they are shared, and else one."""
    with ExitStack() as stack:
        count = min(len(os.sched_getaffinity(0)), MOST_SERVERS) if IS_LONG else 1
        yield [stack.enter_context(ForkServer()) for _ in range(count)]


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    yield _results
    if IS_LONG:
        _results.write(RESULTS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _results.sections:
        terminalreporter.section("reliability")
        terminalreporter.write_line(_results.text())
