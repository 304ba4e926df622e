"""What the ranks of one machine share: the encoding, and the machine itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.status import status
from tests.ranks.launcher import Launcher
from tests.ranks.test_same_run import write
from toolkit.errors import UserError
from toolkit.plan.machine import Machine
from toolkit.runtime import device_probe
from toolkit.runtime.device_probe import Card, device_of_rank

LINE = re.compile(r"(\d+) (texts|images) encoded")


def test_each_caption_and_each_picture_is_encoded_by_one_rank(
    launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    job, output = write(tmp_path, smallest_model, train={"steps": 1}), tmp_path / "output" / "job"
    end = launcher.run(tmp_path, 2, str(job))
    assert end.codes == [0, 0], end.text
    first, second = LINE.findall(end.text), LINE.findall((output / "log.rank1.txt").read_text())
    assert (first, second) == ([("3", "texts"), ("3", "images")], [("3", "texts"), ("2", "images")])
    assert not (output / "_overflow_cache").exists()
    assert "2 ranks x 2 images: 4 images a step" in end.text
    assert any("2 ranks, 2 batches a step" in line for line in status(output))


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = tuple(Card(f"GPU-{index}", "card", 10, 10) for index in range(2))
    monkeypatch.setattr(device_probe, "probe_cards", lambda: cards)


@pytest.mark.usefixtures("two_cards")
def test_each_rank_has_a_card_of_its_own() -> None:
    assert [device_of_rank("auto", local_rank=rank, local_world=2) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert device_of_rank("auto", local_rank=0, local_world=1) == "cuda"
    assert device_of_rank("cpu", local_rank=1, local_world=2) == "cpu"
    with pytest.raises(UserError, match="3 ranks were started on this machine, and torch sees 2"):
        device_of_rank("auto", local_rank=2, local_world=3)
    with pytest.raises(UserError, match="would be used by all 2 ranks; `device: auto`"):
        device_of_rank("cuda:1", local_rank=0, local_world=2)


def test_the_ranks_of_a_machine_share_its_ram_and_not_their_cards() -> None:
    share = Machine("a card", gpu_bytes=24, free_gpu_bytes=20, ram_bytes=64, free_ram_bytes=60).shared_by(2)
    assert (share.gpu_bytes, share.free_gpu_bytes, share.ram_bytes, share.free_ram_bytes) == (24, 20, 32, 30)
    assert share.name == "a card, RAM shared by 2 ranks"
