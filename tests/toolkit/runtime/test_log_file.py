from __future__ import annotations

import sys
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.runtime.log_file import log_to


def test_both_streams_go_to_the_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with log_to(tmp_path / "run.log"):
        print("out")
        print("err", file=sys.stderr)
    assert (tmp_path / "run.log").read_text() == "out\nerr\n"
    assert capsys.readouterr() == ("out\n", "err\n")


def test_the_streams_are_put_back(tmp_path: Path) -> None:
    before = sys.stdout, sys.stderr
    with log_to(tmp_path / "run.log"):
        pass
    assert (sys.stdout, sys.stderr) == before


def test_a_second_run_adds_to_the_file(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with log_to(tmp_path / "run.log"):
            print(text)
    assert (tmp_path / "run.log").read_text() == "one\ntwo\n"


def test_a_redrawn_line_leaves_its_last_state_only(tmp_path: Path) -> None:
    with log_to(tmp_path / "run.log"):
        for step in range(100):
            sys.stderr.write(f"\rstep {step}")
        sys.stderr.write("\n")
    assert (tmp_path / "run.log").read_text() == "step 99\n"


def test_without_a_file_nothing_changes() -> None:
    before = sys.stdout
    with log_to(None):
        assert sys.stdout is before


def test_a_file_that_cannot_be_written_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot write the log"), log_to(tmp_path):
        pass
