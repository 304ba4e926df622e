"""The table of inputs and outcomes, at the end of the session; pytest-xdist's workers send theirs home."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reliability.bad_inputs.battery import COUNTS, table

_SENT = "bad inputs"


def pytest_sessionfinish(session: pytest.Session) -> None:
    sent = getattr(session.config, "workeroutput", None)
    if sent is not None:
        sent[_SENT] = [[*key, count] for key, count in COUNTS.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for kind, outcome, count in getattr(node, "workeroutput", {}).get(_SENT, ()):
        COUNTS[kind, outcome] += count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if COUNTS:
        terminalreporter.section("bad inputs and what they came to")
        terminalreporter.write_line(table())
