from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import pytest

from jobs.cloud.fetched import fetch, is_fetched


class Volume:
    """A folder that is on another machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, name: str) -> Iterator[str]:
        for path in sorted(self.folder.glob(f"{name}/**/*")):
            if path.is_file():
                yield path.relative_to(self.folder).as_posix()

    def read(self, path: str, file: IO[bytes]) -> None:
        file.write((self.folder / path).read_bytes())


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    for name in ("job.safetensors", "samples/grid.jpg", "state/000000003/state.safetensors", ".run.lock"):
        path = tmp_path / "there" / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return Volume(tmp_path / "there")


def brought(volume: Volume, folder: Path) -> list[str]:
    return list(fetch({"job": folder}, files=volume.files, read=volume.read))


def test_weights_and_samples_come_into_the_folder_that_the_job_asks_for(volume: Volume, tmp_path: Path) -> None:
    assert brought(volume, tmp_path / "output" / "job") == [f"fetched: 2 files into {tmp_path / 'output' / 'job'}"]
    assert (tmp_path / "output" / "job" / "job.safetensors").read_text() == "job.safetensors"
    assert (tmp_path / "output" / "job" / "samples" / "grid.jpg").exists()


def test_the_folder_of_a_run_of_this_machine_is_left_alone(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "output" / "job" / "state").mkdir(parents=True)
    (line,) = brought(volume, tmp_path / "output" / "job")
    assert "since a run on this machine uses" in line
    assert (tmp_path / "output" / "job_modal" / "job.safetensors").exists()
    assert not (tmp_path / "output" / "job" / "job.safetensors").exists()


def test_before_a_run_has_written_anything_it_says_so(tmp_path: Path) -> None:
    assert brought(Volume(tmp_path), tmp_path / "output" / "job") == ["job: nothing has been written yet"]


@pytest.mark.parametrize(
    ("path", "comes"),
    [
        ("job.safetensors", True),
        ("samples/grid.jpg", True),
        ("events.jsonl", True),
        ("state/000000003/state.safetensors", False),
        ("superseded/job.safetensors", False),
        (".run.lock", False),
    ],
)
def test_weights_samples_and_logs_come_back(path: str, comes: bool) -> None:
    assert is_fetched(PurePosixPath(path)) is comes
