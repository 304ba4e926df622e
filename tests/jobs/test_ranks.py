"""A whole training run of two ranks: who writes, who moves files, and what a bundle records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from jobs.job import Job, Status
from tests.reliability.smallest_model import write_smallest_model
from tests.tiny import losses, run_job, write_job
from tests.toolkit.parallel.fake_ranks import run_ranks
from toolkit.config import load_job
from toolkit.output.bundles import find_bundles
from toolkit.output.events import read_events
from toolkit.output.lock import RunLock
from toolkit.output.run_record import RUNS_FILE, read_runs
from toolkit.runtime.stop import StopRequest
from toolkit.train.resume import ResumeChoice

STEPS = 4
SAMPLES = {"prompts": ["a red circle"], "sample_every": 2}


@pytest.fixture(scope="module")
def smallest_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smallest_model(tmp_path_factory.mktemp("smallest") / "model")


def _job(folder: Path, base: Path, **train: Any) -> Path:
    folder.mkdir(exist_ok=True)
    settings = {"steps": STEPS, "batch_size": 1, "disable_sampling": False, **train}
    save = {"save_every": 2, "max_step_saves_to_keep": 1}
    return write_job(folder, model={"name_or_path": str(base)}, train=settings, save=save, sample=SAMPLES)


def _run(path: Path, *, resume: ResumeChoice | None = None) -> list[Status]:
    """On two ranks, in threads."""
    return run_ranks(2, lambda ranks: Job(load_job(path), resume=resume, ranks=ranks).run(StopRequest()).status)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, smallest_model: Path) -> Path:
    """The output of one process that accumulates over two batches."""
    folder = tmp_path_factory.mktemp("alone")
    assert run_job(_job(folder, smallest_model, gradient_accumulation=2)).status == "done"
    return folder / "output" / "job"


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, smallest_model: Path) -> Path:
    """The output of two ranks."""
    folder = tmp_path_factory.mktemp("together")
    assert _run(_job(folder, smallest_model)) == ["done", "done"]
    return folder / "output" / "job"


def _files(output: Path) -> list[str]:
    """All files by name, but for the milliseconds in the names of samples."""
    names = (path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    return sorted(name.partition("__")[2] or name for name in names)


def test_two_ranks_learn_what_one_learns_with_twice_the_accumulation(alone: Path, together: Path) -> None:
    assert losses(together) == pytest.approx(losses(alone), rel=1e-4)


def test_the_first_rank_writes_every_file_and_the_second_only_a_log_of_its_own(alone: Path, together: Path) -> None:
    assert _files(together) == sorted([*_files(alone), "log.rank1.txt"])
    assert len(read_runs(together)) == 1
    assert len((together / RUNS_FILE).read_text(encoding="utf-8").splitlines()) == 3  # start, first step, end


def test_every_event_is_there_once(alone: Path, together: Path) -> None:
    one, two = (
        [
            (event["kind"], event.get("step"))
            for event in read_events(folder / "events.jsonl")
            if event["kind"] not in ("memory", "progress")  # which come by the clock
        ]
        for folder in (alone, together)
    )
    assert one == two


def test_a_bundle_and_a_file_count_the_batches_of_all_ranks(alone: Path, together: Path) -> None:
    (one,), (two,) = (find_bundles(folder)[0][-1:] for folder in (alone, together))
    assert (one.manifest["world"], two.manifest["world"]) == (1, 2)
    assert one.manifest["micro_batches_done"] == two.manifest["micro_batches_done"] == 2 * STEPS
    infos = []
    for folder in (alone, together):
        with safe_open(folder / "job.safetensors", framework="pt") as file:
            infos.append(json.loads(file.metadata()["training_info"]))
    assert infos[0] == infos[1]
    assert infos[0]["epoch"] > 0


def test_another_number_of_batches_for_each_step_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], smallest_model: Path
) -> None:
    assert _run(_job(tmp_path, smallest_model, steps=2)) == ["done", "done"]
    assert run_job(_job(tmp_path, smallest_model, gradient_accumulation=3)).status == "refused"
    assert "train.gradient_accumulation: 2 -> 3" in capsys.readouterr().err


def test_a_failure_of_the_first_rank_ends_the_other_and_steps_that_are_repeated_are_moved_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], smallest_model: Path
) -> None:
    path, output = _job(tmp_path, smallest_model, steps=2), tmp_path / "output" / "job"
    with RunLock(output):
        assert _run(path) == ["failed", "failed"]
    assert "FirstRankFailed" in capsys.readouterr().err
    assert _run(path) == ["done", "done"]
    in_the_way = output / "superseded"
    in_the_way.write_text("of the folder that step 2 is moved to")
    assert _run(path, resume=ResumeChoice("none")) == ["failed", "failed"]
    assert "FirstRankFailed" in capsys.readouterr().err
    in_the_way.unlink()
    assert _run(path, resume=ResumeChoice("none")) == ["done", "done"]
    assert len(list(in_the_way.iterdir())) == 1
    assert capsys.readouterr().err.count("were moved to") == 1
