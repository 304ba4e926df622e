"""Measures what each test takes, and writes `tests/slow.txt` from it: `make tiers`, or `pytest FILES --write-tiers`."""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import tiers
from tests.tiers import Taken

_HEAD = """\
# What `make quick` leaves out, with the seconds of a test or file: written by `make tiers`, see tests/tiers.py.
"""
_STARTS = ("subprocess.Popen", "os.posix_spawn", "os.fork", "socket.bind")
_IMPORT = pytest.StashKey[float]()
_DEFINITION = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


class Measuring:
    """A plugin that measures tests where they run, and tells or writes where they are gathered.

    Args:
        is_written: whether the list is written anew for the tests that run, instead of told what it lacks.
    """

    def __init__(self, is_written: bool) -> None:
        self.is_written = is_written
        self.starts = False
        self.shared: dict[Any, Taken] = {}
        self.of_others = Taken()
        self.taken: dict[str, Taken] = {}
        self.skipped: set[str] = set()

    def watch(self) -> None:
        """Notice programs and servers from now on."""
        if self.is_written:  # what most tests import is charged to none
            for library in ("torch", "transformers", "peft", "diffusers"):
                importlib.import_module(library)
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STARTS and not (event == "subprocess.Popen" and Path(str(arguments[0])).stem == "git"):
            self.starts = True

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        before = _now()
        report = yield
        if isinstance(collector, pytest.Module):
            collector.stash[_IMPORT] = _since(before).cpu_s
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function":
            return (yield)
        before, started, self.starts = _now(), self.starts, False
        try:
            return (yield)
        finally:
            took = _since(before)
            self.shared[fixturedef] = Taken(took.cpu_s, took.wall_s, self.starts)
            self.of_others = _sum([self.of_others, took])
            self.starts = started

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self.starts, self.of_others, self.before = False, Taken(), _now()
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        took = _since(self.before)
        own = Taken(took.cpu_s - self.of_others.cpu_s, took.wall_s - self.of_others.wall_s, self.starts)
        assert isinstance(item, pytest.Function)
        definitions = {found for those in item._fixtureinfo.name2fixturedefs.values() for found in those}
        whole = _sum([own, *(self.shared[found] for found in definitions if found in self.shared)])
        module = item.getparent(pytest.Module)
        imports = module.stash.get(_IMPORT, 0.0) if module else 0.0
        item.user_properties.append(("taken", (whole.cpu_s, whole.wall_s, whole.starts, imports)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = tiers.name_of(report.nodeid)
        if report.when == "setup" and report.skipped:
            self.skipped.add(report.nodeid)
        found = dict(report.user_properties).get("taken") if report.when == "teardown" else None
        if isinstance(found, tuple | list) and report.nodeid not in self.skipped:
            cpu_s, wall_s, starts, imports = found
            self.taken[name] = _longer(Taken(cpu_s, wall_s, starts), self.taken.get(name, Taken()))
            file = name.partition("::")[0]
            if imports > tiers.MOST_IMPORT_S:
                self.taken[file] = Taken(imports, imports)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        before = tiers.slow()
        after = listed(before, self.taken, {tiers.name_of(nodeid) for nodeid in self.skipped} - set(self.taken))
        new = sorted(set(after) - set(before))
        if self.is_written:
            tiers.LIST.write_text(text_of(after), encoding="utf-8")
            terminalreporter.write_line(f"{tiers.LIST.name} has {len(after)} names, {len(new)} of them new")
        elif new:
            terminalreporter.section("not quick: `make tiers` writes them to tests/slow.txt")
            for name in new:
                terminalreporter.write_line(f"{after[name]:7.1f} s  {name}")


def listed(before: dict[str, float], taken: dict[str, Taken], skipped: Iterable[str]) -> dict[str, float]:
    """The list of slow tests after a run.

    Args:
        before: the list until now. What did not run stays as it is.
        taken: what each test took that ran, and each file whose import alone is slow.
        skipped: names of tests that were left out.

    Returns:
        seconds of each slow test, and of each file of which all tests are slow.
    """
    after = dict(before)
    files: dict[str, dict[str, Taken]] = defaultdict(dict)
    for name, took in taken.items():
        file, _, test = name.partition("::")
        files[file][test] = took
    left_out = set(skipped)
    for file, tests in files.items():
        was_listed = after.pop(file, None) is not None
        for test, took in tests.items():
            name = f"{file}::{test}"
            was_slow = after.pop(name, None) is not None or was_listed
            if test and took.is_slow(was_slow):
                after[name] = took.wall_s
        text = (tiers.LIST.parent / file).read_text(encoding="utf-8")
        every = {f"{file}::{test}" for test in _DEFINITION.findall(text)}
        if "" in tests or every - left_out <= set(after):
            seconds = sum(after.pop(name, 0.0) for name in every)
            after[file] = max(seconds, tests.get("", Taken()).wall_s)
    return after


def text_of(slow: dict[str, float]) -> str:
    """A list of slow tests as a text that `tiers.read` reads."""
    return _HEAD + "".join(f"{slow[name]:6.1f}  {name}\n" for name in sorted(slow))


def _now() -> Taken:
    times = os.times()
    return Taken(time.process_time() + times.children_user + times.children_system, time.monotonic())


def _since(before: Taken) -> Taken:
    now = _now()
    return Taken(now.cpu_s - before.cpu_s, now.wall_s - before.wall_s)


def _sum(parts: list[Taken]) -> Taken:
    return Taken(sum(p.cpu_s for p in parts), sum(p.wall_s for p in parts), any(p.starts for p in parts))


def _longer(a: Taken, b: Taken) -> Taken:
    return Taken(max(a.cpu_s, b.cpu_s), max(a.wall_s, b.wall_s), a.starts or b.starts)
