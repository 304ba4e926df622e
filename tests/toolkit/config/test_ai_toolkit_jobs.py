"""Job files that ai-toolkit's users have run as they are, paths apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from jobs.job import Job
from toolkit.config import load_job

JOBS = sorted((Path(__file__).parent / "ai_toolkit").glob("*.yaml"))


@pytest.fixture(params=JOBS, ids=lambda path: path.stem)
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file with paths that exist."""
    for folder in ("images", "control"):
        (tmp_path / folder / "folder").mkdir(parents=True)
        Image.new("RGB", (512, 512)).save(tmp_path / folder / "folder" / "person1.jpg")
        (tmp_path / folder / "folder" / "person1.txt").write_text("a person")
    path = tmp_path / request.param.name
    text = request.param.read_text(encoding="utf-8").replace("/path/to", str(tmp_path))
    path.write_text(text.replace('training_folder: "output"', f"training_folder: {tmp_path}/output"), encoding="utf-8")
    return path


def test_it_is_accepted_and_nothing_that_it_says_is_refused(job: Path) -> None:
    loaded = load_job(job)
    process = loaded.training()
    assert process.model.is_flux
    assert process.network is not None
    assert (process.network.linear, process.network.linear_alpha) == (16, 16)
    assert process.save.dtype == "fp16"
    assert process.save.lora_format == "diffusers"
    assert not [line for line in loaded.notices if "adapter" in line]
    assert all("ignored" in line for line in loaded.notices), loaded.notices


def test_its_check_passes(job: Path) -> None:
    assert Job(load_job(job)).check()


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_there_is_an_example_of_this_name(path: Path) -> None:
    assert (Path(__file__).resolve().parents[3] / "config" / "examples" / path.name).is_file()
