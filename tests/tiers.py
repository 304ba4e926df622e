"""Which tests `make quick` leaves out: those that `tests/slow.txt` names, as measured, and those marked `slow`.

A test is quick if it takes at most `MOST_CPU_S` of a core and `MOST_S` in all, what it shares with others included, and
starts neither a program (git excepted) nor a server. `make tiers` measures and writes the file (`tests/measuring.py`);
`make quick` says at its end which of its tests should stand there; `tests/test_tiers.py` notices what has been renamed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

IS_TORTURE = bool(os.environ.get("TORTURE"))  # `make torture`

MOST_CPU_S = 0.2
MOST_S = 1.0
MOST_IMPORT_S = 1.0  # of a file, beside torch and the model libraries
LIST = Path(__file__).with_name("slow.txt")

_TESTS = Path(__file__).resolve().parent
_LONG_S = 5.0  # files that take more than this start first


@dataclass(frozen=True)
class Taken:
    """What a test took, all of what it shares with others included.

    Args:
        cpu_s: seconds of a core, of this process and of those that it waited for.
        wall_s: seconds until it was over.
        starts: whether it started a program or a server.
    """

    cpu_s: float = 0.0
    wall_s: float = 0.0
    starts: bool = False

    def is_slow(self, was: bool = False) -> bool:
        """Whether `make quick` leaves it out. What `was` slow comes back when it takes half of what is allowed."""
        share = 0.5 if was else 1.0
        return self.starts or self.cpu_s > MOST_CPU_S * share or self.wall_s > MOST_S * share


@cache
def slow() -> dict[str, float]:
    """The seconds of each slow file, and of each slow test of another file: `contract/test_lora.py::test_merging`."""
    return read(LIST.read_text(encoding="utf-8"))


def read(text: str) -> dict[str, float]:
    """The seconds of each name in a list of slow tests."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(seconds) for seconds, name in lines}


def mark(items: list[pytest.Item]) -> None:
    """Mark what is listed as slow, and skip what only `make torture` runs."""
    names = slow()
    for item in items:
        place = name_of(item.nodeid)
        if place in names or place.partition("::")[0] in names:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("torture") and not IS_TORTURE:
            item.add_marker(pytest.mark.skip(reason="`make torture` runs it"))
        if IS_TORTURE and hasattr(getattr(item, "module", None), "IS_TORTURE"):  # the file has more to run then
            item.add_marker(pytest.mark.torture)


def name_of(nodeid: str) -> str:
    """The name of a test in the list: from `tests/`, and without its parameters."""
    return nodeid.partition("[")[0].removeprefix("tests/")


def is_slow(path: Path) -> bool:
    """Whether every test in a file is slow: it need not even be imported where none of them is wanted."""
    return path.is_relative_to(_TESTS) and path.relative_to(_TESTS).as_posix() in slow()


def long_files() -> set[Path]:
    """Files of which one that starts last would leave the other cores idle."""
    seconds: dict[str, float] = {}
    for name, took in slow().items():
        file = name.partition("::")[0]
        seconds[file] = seconds.get(file, 0.0) + took
    return {_TESTS / file for file, took in seconds.items() if took > _LONG_S}
