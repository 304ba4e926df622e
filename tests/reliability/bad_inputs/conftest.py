"""The table of inputs and outcomes, at the end of the session."""

from __future__ import annotations

from typing import Any

from tests.reliability.bad_inputs.battery import COUNTS, table


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if COUNTS:
        terminalreporter.section("bad inputs and what they came to")
        terminalreporter.write_line(table())
