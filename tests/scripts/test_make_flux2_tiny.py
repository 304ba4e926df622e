"""The script's stages fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scripts.flux2_tiny.dataset import write_world_dataset
from scripts.make_flux2_tiny import ASSET, FIGURES, JOB_NAME, main, training_job
from toolkit.config import load_job


def test_its_training_job_is_a_valid_full_finetune(tmp_path: Path) -> None:
    (tmp_path / "initial").mkdir()
    write_world_dataset(tmp_path / "world", num_pictures=1)
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(training_job(tmp_path)), encoding="utf-8")
    job = load_job(path)
    process = job.training()
    assert job.name == JOB_NAME
    assert job.notices == ()
    assert process.train.full_finetune
    assert process.network is None
    assert process.train.warmup_steps == 100


def test_a_stage_without_its_inputs_names_the_stage_to_run_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--work", str(tmp_path), "--stage", "initial"]) == 2
    assert "--stage vae" in capsys.readouterr().err
    assert not (tmp_path / "initial").exists()


def test_the_readme_has_a_place_for_the_figures() -> None:
    text = (ASSET / "README.md").read_text(encoding="utf-8")
    assert len(FIGURES.findall(text)) == 1
