from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.config.reading.known import Known
from toolkit.config.reading.load import check_job
from toolkit.config.reading.parse import parse_file
from toolkit.errors import JobError

Tree = dict[str, Any]
Check = Callable[..., Any]  # a JobConfig, some of whose sections may be None
Problems = Callable[..., dict[str, str]]


@pytest.fixture
def known() -> Known:
    """Two models of one family, one with defaults, and a model of another."""

    def card(arch: str, family: str, **more: Any) -> ModelCard:
        return ModelCard(arch, family, arch, "For tests.", f"owner/{arch}", "none", False, 16, 1, **more)

    defaults = {
        "train": {"steps": 77, "optimizer_params": {"eps": 1e-5}},
        "network": {"linear": 5},
        "datasets": {"resolution": [256]},
        "sample": {"width": 320},
    }
    cards = [card("flux2", "flux2"), card("flux2_small", "flux2", defaults=defaults), card("other", "other")]
    types = ("sd_trainer", "diffusion_trainer")
    return Known({card.arch: card for card in cards}, dict.fromkeys(types, TrainingProcessConfig), {"extension": types})


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    """A small job that is right."""
    (tmp_path / "images").mkdir()
    process = {
        "type": "sd_trainer",
        "training_folder": str(tmp_path / "output"),
        "network": {"type": "lora", "linear": 8},
        "datasets": [{"folder_path": str(tmp_path / "images")}],
        "train": {"lr": 2e-4},
        "model": {"name_or_path": "owner/model", "arch": "flux2"},
    }
    return {"job": "extension", "config": {"name": "cat", "process": [process]}}


@pytest.fixture
def process(job: dict[str, Any]) -> dict[str, Any]:
    """Its only process."""
    process: dict[str, Any] = job["config"]["process"][0]
    return process


@pytest.fixture
def check(job: dict[str, Any], known: Known) -> Check:
    """Checks `job` as it is by then."""
    return lambda **options: check_job(copy.deepcopy(job), path=Path("job.yaml"), known=known, **options)


@pytest.fixture
def problems(check: Check) -> Problems:
    """What is wrong with `job` by then, by place; without `config.process[0].`."""

    def collect(**options: Any) -> dict[str, str]:
        with pytest.raises(JobError) as caught:
            check(**options)
        return {problem.where.removeprefix("config.process[0]."): problem.what for problem in caught.value.problems}

    return collect


@pytest.fixture
def parse(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Parses a text as a job file with this name."""

    def parse_text(text: str | bytes, name: str = "job.yaml") -> dict[str, Any]:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return parse_file(path)

    return parse_text


@pytest.fixture
def job_file(job: dict[str, Any], tmp_path: Path) -> Path:
    """`job` as a file, as it is when this fixture is made."""
    path = tmp_path / "cat.yaml"
    path.write_text(yaml.safe_dump(job))
    return path
