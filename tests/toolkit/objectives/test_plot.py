"""python -m toolkit.objectives plot JOB"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.tiny import write_job
from toolkit.config import TrainingProcessConfig, load_job
from toolkit.objectives.__main__ import main
from toolkit.objectives.choices import TIMESTEPS
from toolkit.objectives.noise.plot import as_picture, as_text, histograms


def _process(folder: Path, **train: object) -> TrainingProcessConfig:
    path = write_job(folder, train=train, datasets=[{"folder_path": str(folder / "images"), "resolution": [32, 64]}])
    return load_job(path).training()


@pytest.mark.parametrize("kind", TIMESTEPS)
def test_the_shares_and_parts_of_every_distribution_add_up(kind: str, tmp_path: Path) -> None:
    for histogram in histograms(_process(tmp_path, timestep_type=kind)):
        assert sum(histogram.shares) == pytest.approx(1)
        assert sum(histogram.parts) == pytest.approx(1)
        assert len(as_text(histogram)) == 22


def test_density_and_weight_are_those_that_train(tmp_path: Path) -> None:
    (linear,) = histograms(_process(tmp_path, timestep_type="linear", loss_weighting="cosmap"))
    assert linear.shares == pytest.approx([0.05] * 20, abs=1e-4)
    middle = torch.linspace(0.025, 0.975, 20)
    assert linear.weights == pytest.approx((2 / (torch.pi * (1 - 2 * middle + 2 * middle**2))).tolist(), rel=5e-3)
    (content,) = histograms(_process(tmp_path, timestep_type="linear", content_or_style="content"))
    assert content.shares[-1] == pytest.approx(0.05 ** (1 / 3), abs=1e-3)


def test_sizes_have_plots_of_their_own_where_they_differ(tmp_path: Path) -> None:
    found = histograms(_process(tmp_path, timestep_type="shift"))
    assert [histogram.title for histogram in found] == ["shift at 32 x 32", "shift at 64 x 64"]
    assert as_picture(found).height == 2 * as_picture(found[:1]).height


def test_the_command_prints_bars_and_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, picture = write_job(tmp_path), tmp_path / "plot.png"
    assert main(["plot", str(job), "--set", "train.timestep_type=beta", "--png", str(picture)]) == 0
    assert "beta at 32 x 32" in capsys.readouterr().out
    with Image.open(picture) as image:
        assert image.size == (900, 420)


def test_mistakes_are_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(tmp_path / "none.yaml")]) == 2
    few = write_job(tmp_path, train={"objective": "mean_flow", "objective_params": {"steps": 2}})
    assert main(["plot", str(few)]) == 2
    assert main(["plot", str(write_job(tmp_path)), "--png", str(tmp_path / "no" / "folder.png")]) == 2
    assert "cannot be written" in capsys.readouterr().err
