"""The process that checks what the server cannot: its libraries are loaded once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ui.server.conftest import job_text, wait_for
from ui.server.checks.checker import Checker, CheckInputs
from ui.server.jobs.text import TextFolder


def test_checks_after_the_first_find_the_libraries_loaded_and_one_that_dies_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds: it imports what knows the models, twice."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # no verdict is known
    checker = Checker(TextFolder(tmp_path / "texts"))

    def check(rank: int) -> tuple[dict[str, Any], float]:
        started = time.monotonic()
        text = job_text(tmp_path, "job", network={"type": "lora", "linear": rank})
        with checker.texts.file(text) as path:
            found = checker._elsewhere(path, CheckInputs(text))
        print(f"rank {rank}: {time.monotonic() - started:.1f} s")
        return found, time.monotonic() - started

    try:
        facts, first_s = check(4)
        assert facts["ok"], facts
        process = checker.worker._process
        assert process is not None
        facts, second_s = check(8)
        assert facts["ok"] and checker.worker._process is process
        assert second_s < first_s / 2
        assert not check(10**9)[0]["ok"]
        os.kill(process.pid, signal.SIGKILL)
        assert check(16)[0]["ok"]
    finally:
        checker.close()
    assert process.returncode is not None


def test_the_process_ends_when_nobody_asks(tmp_path: Path) -> None:
    checker = Checker(TextFolder(tmp_path / "texts"))
    checker.worker.idle_s = 0.2
    (tmp_path / "job.yaml").write_text("config: 5\n", encoding="utf-8")  # read without a library
    options = {"vram_gb": None, "resume": "latest", "from_step": None, "accept": False}
    assert checker.worker.facts(tmp_path / "job.yaml", options, timeout_s=60) is None
    process = checker.worker._process
    assert process is not None
    wait_for(lambda: process.returncode is not None)
