"""Where ranks compute with what the others hold, all end as well, with one message, however one of them does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.ranks.launcher import Launcher
from tests.ranks.test_same_run import write
from tests.ranks.trouble import Trouble
from tests.reliability.bundles import valid_steps
from toolkit.output.run_record import read_runs

FULL: dict[str, Any] = {
    "network": None,
    "train": {"full_finetune": True, "sharding": "full"},
    "save": {"save_every": 2},
}


# The first three are those that a run without shards does not meet.
TROUBLES = (
    (Trouble(1, "step", "kill", 3), r"rank 1 \(.*\) has ended without a message"),
    (Trouble(1, "step", "hang"), r"A step has taken more than 3 s, .* rank 1 \(\S+\) is at tests/ranks/trouble.py"),
    (Trouble(1, "shard", "full disk"), r"rank 1: .*the disk is full"),
    (Trouble(0, "step", "memory"), r"rank 0 \(\S+\): .*out of memory"),
    (Trouble(0, "shard", "full disk"), r"rank 0 \(\S+\): .*the disk is full"),
    (Trouble(0, "whole", "full disk"), r"rank 0 \(\S+\): .*the disk is full"),
)


@pytest.mark.parametrize(
    "troubles", [TROUBLES[:3], pytest.param(TROUBLES[3:], marks=pytest.mark.torture)], ids=["rank 1", "rank 0"]
)
def test_one_message_names_the_rank_and_the_reason(
    troubles: Sequence[tuple[Trouble, str]], launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    """One run that saves step 2, and then fails in every way before it has saved another."""
    job, output = write(tmp_path, smallest_model, **FULL), tmp_path / "output" / "job"
    for trouble, said in troubles:
        end = launcher.run(tmp_path, 2, str(job), troubles=[trouble], environment={"RANKS_TIMEOUT_S": "3"})
        assert 0 not in end.codes, end
        assert re.search(said, end.text), end.text
        assert end.text.count("ranks have stopped") == 1, end.text
        assert valid_steps(output) == [2]
        assert read_runs(output)[-1].status == "failed"
    assert launcher.run(tmp_path, 2, str(job)).codes == [0, 0]


def test_a_full_disk_on_one_rank_stops_nobody_if_the_job_says_so(
    launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    save = {"save_every": 2, "on_disk_full": "continue"}
    job = write(tmp_path, smallest_model, **{**FULL, "save": save})
    end = launcher.run(tmp_path, 2, str(job), troubles=[Trouble(1, "shard", "full disk", 3)])
    assert end.codes == [0, 0], end.text
    assert valid_steps(tmp_path / "output" / "job")[-1] == 6
    assert 4 not in valid_steps(tmp_path / "output" / "job")
