"""toolkit.output.unowned, and what a run does with such files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.small_run import STEPS, Crash, SmallRun, texts
from tests.tiny import run_job, write_job
from tests.toolkit.train.test_resume import _facts
from toolkit.config import load_job
from toolkit.errors import UserError
from toolkit.output.unowned import must_not_be_read, unowned_files
from toolkit.train.resume import ResumeChoice, describe_resume, plan_resume


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("job*.safetensors")}


def _moved(folder: Path) -> dict[str, bytes]:
    (aside,) = (folder / "superseded").iterdir()
    return _contents(aside)


def test_a_lora_whose_state_was_deleted_makes_way_and_is_not_lost(tmp_path: Path) -> None:
    SmallRun().run(tmp_path)
    before = _contents(tmp_path)
    shutil.rmtree(tmp_path / "state")
    plan = plan_resume(tmp_path, ResumeChoice(), _facts(), is_thorough=False)
    (line,) = describe_resume(plan)
    assert "first moved to `superseded/`" in line
    assert "network.pretrained_lora_path" in line
    SmallRun({"lr": 0.02}).run(tmp_path)
    assert _moved(tmp_path) == before
    assert _contents(tmp_path) != before
    assert any("moved to" in text and "--resume none" in text for text in texts(tmp_path))


@pytest.mark.parametrize("choice", [ResumeChoice(), ResumeChoice("none")], ids=["latest", "none"])
def test_files_of_another_program_are_moved_aside(choice: ResumeChoice, tmp_path: Path) -> None:
    names = ["job_000000002.safetensors", "job.safetensors", "optimizer.pt", "config.yaml", "samples/grid.jpg"]
    for name in (*names, "job_v2.safetensors", "job_000000002_x.safetensors", "jobs.safetensors", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"theirs")
    (tmp_path / "job_000000004" / "transformer").mkdir(parents=True)
    (tmp_path / "job_000000004" / "transformer" / "weights.safetensors").write_bytes(b"theirs")
    SmallRun(save={"max_step_saves_to_keep": 1}).run(tmp_path, resume=choice)
    (aside,) = (tmp_path / "superseded").iterdir()
    moved = sorted(path.relative_to(aside).as_posix() for path in aside.rglob("*") if path.is_file())
    assert moved == sorted([*names, "job_000000004/transformer/weights.safetensors"])
    assert all((aside / name).read_bytes() == b"theirs" for name in moved)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file() and path.read_bytes() == b"theirs") == [
        "job_000000002_x.safetensors", "job_v2.safetensors", "jobs.safetensors", "notes.txt",
    ]  # fmt: skip


def test_weights_of_a_later_step_whose_state_was_deleted_are_moved_aside_too(tmp_path: Path) -> None:
    SmallRun(save={"max_states_to_keep": 0}).run(tmp_path)
    for step in (4, 6):
        shutil.rmtree(tmp_path / "state" / f"{step:09d}")
    before = _contents(tmp_path)
    SmallRun(save={"max_states_to_keep": 0}).run(tmp_path)
    assert _moved(tmp_path) == {name: before[name] for name in ("job.safetensors", "job_000000004.safetensors")}


def test_a_run_made_longer_replaces_the_final_weights_of_its_shorter_self(tmp_path: Path) -> None:
    SmallRun(save={"max_states_to_keep": 0}).run(tmp_path)
    with pytest.raises(Crash):
        SmallRun({"steps": STEPS + 4}, save={"max_states_to_keep": 0}).run(tmp_path, crash_in=STEPS + 3)
    shutil.rmtree(tmp_path / "state" / f"{STEPS:09d}")  # step 8 still goes on from it
    SmallRun({"steps": STEPS + 4}).run(tmp_path)
    assert not (tmp_path / "superseded").exists()


def test_final_weights_whose_own_step_was_deleted_are_kept_when_the_job_is_shorter_now(tmp_path: Path) -> None:
    SmallRun(save={"max_states_to_keep": 0}).run(tmp_path)
    final = (tmp_path / "job.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "state" / f"{STEPS:09d}")
    SmallRun({"steps": 4}, save={"max_states_to_keep": 0}).run(tmp_path)
    assert _moved(tmp_path)["job.safetensors"] == final


def test_a_kill_between_the_final_weights_and_their_manifest_moves_nothing(tmp_path: Path) -> None:
    SmallRun().run(tmp_path)
    folder = tmp_path / "state" / f"{STEPS:09d}"
    (folder / "manifest.json").unlink()
    (folder / "begun").touch()
    SmallRun().run(tmp_path)
    assert not (tmp_path / "superseded").exists()


def test_weights_put_under_the_final_name_by_someone_else_make_way(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        SmallRun().run(tmp_path, crash_in=4)
    (tmp_path / "job.safetensors").write_bytes(b"mine")
    SmallRun().run(tmp_path)
    assert _moved(tmp_path)["job.safetensors"] == b"mine"


def test_a_run_that_starts_from_another_folder_overwrites_no_weights(tmp_path: Path) -> None:
    SmallRun(save={"save_every": 4}).run(tmp_path / "other")
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "job.safetensors").write_bytes(b"mine")
    SmallRun().run(folder, resume=ResumeChoice(tmp_path / "other", step=4))
    assert _moved(folder) == {"job.safetensors": b"mine"}


def test_what_a_killed_run_of_ours_left_is_written_again_in_place(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        SmallRun().run(tmp_path, crash_in=4)
    folder = tmp_path / "state" / "000000004"  # killed between the weights for the user and the manifest
    folder.mkdir()
    (folder / "begun").touch()
    (tmp_path / "job_000000004.safetensors").write_bytes(b"cut")
    SmallRun().run(tmp_path)
    assert not (tmp_path / "superseded").exists()
    assert (tmp_path / "job_000000004.safetensors").read_bytes() != b"cut"


def test_a_run_that_resumes_or_is_done_moves_nothing(tmp_path: Path) -> None:
    SmallRun().run(tmp_path)
    SmallRun().run(tmp_path)
    SmallRun({"steps": STEPS + 2}).run(tmp_path)
    assert not (tmp_path / "superseded").exists()


def test_what_the_job_itself_reads_is_not_moved_from_under_it(tmp_path: Path) -> None:
    lora = tmp_path / "job.safetensors"
    lora.write_bytes(b"mine")
    found = unowned_files(tmp_path, "job", after=0, takes_final=True)
    assert found == (lora,)
    with pytest.raises(UserError, match=r"network\.pretrained_lora_path: .*is where this job writes"):
        must_not_be_read({"network": {"pretrained_lora_path": str(lora)}}, found)


def test_a_whole_job_keeps_the_lora_and_the_job_file_of_the_run_before(tmp_path: Path) -> None:
    """Two whole runs: the check, the notice and the order of what `run` does."""
    job, output = write_job(tmp_path, train={"steps": 1}), tmp_path / "output" / "job"
    assert run_job(job).status == "done"
    before = {name: (output / name).read_bytes() for name in ("job.safetensors", "config.yaml")}
    shutil.rmtree(output / "state")
    assert run_job(job, None, "train.lr=0.002").status == "done"
    (aside,) = (output / "superseded").iterdir()
    assert {name: (aside / name).read_bytes() for name in before} == before
    assert (output / "job.safetensors").read_bytes() != before["job.safetensors"]
    assert load_job(output / "config.yaml").training().train.lr == 0.002
