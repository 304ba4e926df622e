"""Ranks that differ are found before the first step, and named; ranks whose weights have parted save nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks.launcher import Launcher
from tests.ranks.test_same_run import write
from tests.ranks.trouble import Trouble
from tests.reliability.bundles import valid_steps
from tests.toolkit.parallel.fake_ranks import FakeRanks, run_ranks
from toolkit.parallel.agreement import OfAllRanks, checksum, require_equal


def test_another_dataset_or_job_on_another_machine_is_named(
    launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    """Two folders stand for the drives of two machines."""
    here, there = write(tmp_path / "here", smallest_model), write(tmp_path / "there", smallest_model)
    (tmp_path / "there" / "images" / "3.txt").write_text("another caption")
    end = launcher.run(tmp_path, 2, own={0: [str(here)], 1: [str(there), "--set", "train.steps=7"]})
    assert end.codes == [1, 1], end
    assert end.text.count("The ranks differ from rank 0") == 1, end.text
    assert "job file: train.steps (7 instead of 6)" in end.text
    assert "dataset: 3.png (" in end.text
    assert "== train ==" not in end.text


def test_a_checkpoint_that_only_one_machine_has_is_named(
    launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    here, there = write(tmp_path / "here", smallest_model), write(tmp_path / "there", smallest_model)
    assert launcher.run(tmp_path, 2, str(here), "--set", "train.steps=3").codes == [0, 0]
    shutil.rmtree(tmp_path / "there" / "output", ignore_errors=True)
    end = launcher.run(tmp_path, 2, own={0: [str(here)], 1: [str(there)]})
    assert end.codes == [1, 1], end
    assert "checkpoint: none instead of 000000003" in end.text, end.text


def test_a_mistake_that_only_one_rank_sees_ends_all_with_one_message(
    launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    job = write(tmp_path, smallest_model)
    end = launcher.run(tmp_path, 2, own={0: [str(job)], 1: [str(tmp_path / "missing.yaml")]})
    assert end.codes == [2, 2], end
    assert end.text.count("rank 1 (") == end.text.count("there is no such job file") == 1, end.text
    end = launcher.run(tmp_path, 2, own={0: [str(job)], 1: [str(job), "--set", "datasets.0.folder_path=/nowhere"]})
    assert end.codes == [2, 2], end
    assert "rank 1 (" in end.text and end.text.count("/nowhere") == 1, end.text


def test_a_limit_that_is_no_number_is_named(launcher: Launcher, smallest_model: Path, tmp_path: Path) -> None:
    end = launcher.run(tmp_path, 2, str(write(tmp_path, smallest_model)), environment={"RANKS_TIMEOUT_S": "soon"})
    assert end.codes == [2, 2], end
    assert end.text.count("RANKS_TIMEOUT_S is 'soon' in the environment") == 1, end.text


def test_ranks_whose_weights_have_parted_save_nothing(launcher: Launcher, smallest_model: Path, tmp_path: Path) -> None:
    job = write(tmp_path, smallest_model, save={"save_every": 2})
    end = launcher.run(tmp_path, 2, str(job), troubles=[Trouble(1, "step", "wrong bit", 4)])
    assert end.codes == [1, 1], end
    assert end.text.count("The weights of rank 1 differ from those of rank 0") == 1, end.text
    assert valid_steps(tmp_path / "output" / "job") == [2]


def test_every_bit_and_its_place_enter_the_checksum() -> None:
    one = torch.zeros(8, 8)
    flipped, moved = one.clone(), one.clone()
    flipped[3, 3] = -0.0
    moved[3, 4] = -0.0
    sums = {checksum([weight, weight.bfloat16()]) for weight in (one, flipped, moved)}
    assert len(sums) == 3
    assert checksum([one]) == checksum([one.clone()])


def test_only_a_few_of_many_differences_are_listed() -> None:
    def work(ranks: FakeRanks) -> str:
        facts: dict[str, Any] = {
            "dataset": {f"{index}.png": str(ranks.rank if index > 2 else 0) for index in range(20)},
            "torch": "2.13",
        }
        with pytest.raises(OfAllRanks) as raised:
            require_equal(ranks, facts)
        return str(raised.value)

    first, second = run_ranks(2, work)
    assert first == second
    assert "dataset: 3.png (1 instead of 0), 4.png" in first
    assert "and 12 more" in first
    assert "torch" not in first
