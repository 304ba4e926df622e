"""jobs.tell"""

from __future__ import annotations

from pathlib import Path

import pytest

import run
from jobs.tell import tell
from toolkit.errors import UserError
from toolkit.output.lock import RunLock
from toolkit.runtime.control import ControlFolder


def test_the_run_that_uses_the_folder_gets_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLock(tmp_path):
        assert run.main(["--tell", str(tmp_path), "stop"]) == 0
        assert ControlFolder(tmp_path).take() == ["stop"]
    told = capsys.readouterr().out
    assert "sent `stop` to process" in told and "saves and ends" in told


def test_a_folder_that_no_run_uses_is_a_mistake_and_left_as_it_is(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        pass
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="no run is using"):
        tell(tmp_path, "stop")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["absent", "file", "x" * 300])
def test_what_is_no_folder_is_a_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="no such folder"):
        tell(tmp_path / name, "stop")


def test_an_unknown_command_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean `sample`\\? Known: stop, save, sample"):
        tell(tmp_path, "samples")
