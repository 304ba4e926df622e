"""toolkit.output.disk"""

import os
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.output.disk import check_output_folder, free_bytes, most_trained, needed_bytes


def _needed(*, lora_rank: int | None = 16, bytes_per_state: int = 12, **options: int) -> int:
    count = most_trained(4_000_000_000, lora_rank)
    settings = {"save_bytes": 2 * count, "state_bytes": bytes_per_state * count, "num_kept": 4, "num_saves": 10}
    return needed_bytes(**{**settings, **options})


def test_a_folder_that_does_not_exist_yet_is_fine(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "a" / "b", needed=1)
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file"):
        check_output_folder(tmp_path / "file" / "job", needed=1)


def test_too_small_a_drive_is_refused_with_both_figures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs up to 931322574\.6 GB .* GB free"):
        check_output_folder(tmp_path, needed=10**18)


def test_free_space_is_known_of_places_that_do_not_exist_and_of_links_that_go_round_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "a" / "b", tmp_path / "loop", tmp_path / "loop" / "c"):
        assert free_bytes(path) > 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written"):
        check_output_folder(tmp_path / "job", needed=1)


def test_the_estimate_grows_with_what_is_kept() -> None:
    assert _needed(num_kept=2) < _needed(num_kept=4) < _needed(num_kept=0)
    assert _needed(lora_rank=16) < _needed(lora_rank=64) < _needed(lora_rank=None)


def test_states_that_are_not_kept_take_no_room() -> None:
    many = {"num_kept": 160, "num_saves": 160}
    assert _needed(**many, num_states=2) < _needed(**many, num_states=0) / 6
    assert _needed(num_kept=1, num_states=8) == _needed(num_kept=1)


def test_a_lora_of_klein_4b_at_rank_16_is_about_50_mb_in_bf16() -> None:
    one = _needed(num_saves=0, bytes_per_state=0)
    assert 40e6 < one < 60e6
