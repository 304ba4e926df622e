"""The page in a real Chromium, one for all: stories told in JavaScript, each with a server of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.drawing import write_lora
from tests.toolkit.report.finished import finished_run
from toolkit.report import write_report

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with a few captioned pictures."""
    images = tmp_path / "images"
    images.mkdir()
    for index in range(6):
        Image.new("RGB", (128, 128), (40 * index, 120, 200 - 30 * index)).save(images / f"{index}.png")
        (images / f"{index}.txt").write_text(f"a picture of colour {index}", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def browser() -> Iterator[None]:
    """A browser that the stories share; each opens contexts of its own."""
    command = ["node", str(HERE / "shared.mjs")]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running,
    ):
        assert running.stdin is not None and running.stdout is not None
        patch.setenv("UI_BROWSER", running.stdout.readline().strip())
        yield
        running.stdin.close()


def tell(story: str, folder: Path) -> None:
    done = subprocess.run(
        ["node", str(HERE / story), str(folder)],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_a_job_is_made_watched_stopped_and_resumed_in_the_browser(folder: Path) -> None:
    """A minute: a whole story with scripted runs, and axe on every page in two colour schemes."""
    tell("story.mjs", folder)


def test_tabs_share_a_stream_and_a_queue_obeys_keys(folder: Path) -> None:
    """Half a minute: two tabs, a queue, a run stopped at once, a failure that is explained."""
    tell("tabs.mjs", folder)


def test_runs_are_compared_and_start_times_of_a_queue_are_shown(folder: Path) -> None:
    """Half a minute: film strip, other runs in the charts, what a clone has changed, memory and times of a queue."""
    tell("compare.mjs", folder)


def test_runs_are_held_side_by_side_and_their_checkpoints_tried_out(tmp_path: Path) -> None:
    """Half a minute: a comparison that its address holds, and a grid that the tiny model draws."""
    for name, rate in (("first", "0.003"), ("second", "0.0005")):
        config = finished_run(tmp_path / "output" / name) / "config.yaml"
        changed = f"lr: {rate}\n      dtype: fp32"
        config.write_text(config.read_text(encoding="utf-8").replace("lr: 0.003", changed), encoding="utf-8")
    for seed, name in enumerate(("first_000000020", "first")):
        write_lora(tmp_path / "output" / "first" / f"{name}.safetensors", seed=seed)
    tell("tryout.mjs", tmp_path)


def test_a_dataset_is_filled_captioned_and_looked_over(folder: Path) -> None:
    """A third of a minute: uploads, captions by hand, in bulk and by a model, the doctor, a job begun with it."""
    tell("datasets.mjs", folder)


def test_the_tiny_model_is_trained_by_keyboard_alone(folder: Path) -> None:
    """A minute: real training, from the form through a stop and a resume to the last step."""
    tell("real.mjs", folder)


def test_title_notification_and_webhook_tell_of_a_run(folder: Path) -> None:
    """Fifteen seconds: a webhook is set and tried, and a hidden tab tells how far a run is and that it is done."""
    tell("notices.mjs", folder)


def test_a_report_works_without_a_server(tmp_path: Path) -> None:
    """Five seconds: slider, matrix, figures under the pointer, axe in two colour schemes."""
    folder = finished_run(tmp_path / "cats")
    write_report(folder)
    tell("report.mjs", folder)
