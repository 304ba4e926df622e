"""toolkit.train.resume, and what a run does with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.small_run import STEPS, SmallRun, texts
from tests.tiny import losses
from toolkit.errors import Interrupted, UserError
from toolkit.output.bundles import find_bundles, read_bundle, write_manifest
from toolkit.train.rate_change import describe_rate_change
from toolkit.train.resume import ResumeChoice, describe_resume, plan_resume
from toolkit.train.run_facts import RunFacts, describe_dataset_change

KEEP_ALL = {"save_every": 2, "max_step_saves_to_keep": 0, "max_states_to_keep": 0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with bundles of steps 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("finished") / "job"
    SmallRun(save=KEEP_ALL).run(folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "job")


def _facts(**changes: object) -> RunFacts:
    train = {"gradient_accumulation": 1, "optimizer": "adamw", "lr_scheduler": "constant"}
    values = {"job": "job", "config": {"training_seed": 3, "train": train}, "dataset": {"image": "hash"}, **changes}
    return RunFacts(**values)  # type: ignore[arg-type]


def _steps(folder: Path) -> list[int]:
    return [bundle.step for bundle in find_bundles(folder)[0]]


def test_from_a_step_the_later_ones_are_moved_aside_and_made_again(folder: Path) -> None:
    before = losses(folder)
    with pytest.raises(Interrupted):
        SmallRun(save=KEEP_ALL).run(folder, resume=ResumeChoice(step=2), stop_in=3)
    (aside,) = (folder / "superseded").iterdir()
    assert _steps(folder) == [2, 3]
    assert _steps(aside) == [4, 6]
    assert (aside / "job_000000004.safetensors").exists()
    assert (aside / "job.safetensors").exists()
    assert any("(4, 6) were moved to" in text for text in texts(folder))
    SmallRun(save=KEEP_ALL).run(folder)
    assert losses(folder) == before
    assert (aside / "job.safetensors").read_bytes() == (folder / "job.safetensors").read_bytes()


def test_with_none_a_run_begins_anew_and_nothing_is_lost(folder: Path) -> None:
    SmallRun(save=KEEP_ALL).run(folder, resume=ResumeChoice("none"))
    (aside,) = (folder / "superseded").iterdir()
    assert _steps(aside) == _steps(folder) == [2, 4, 6]


def test_a_path_may_be_another_job_one_of_its_bundles_or_what_was_moved_aside(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for source, step in ((folder / "state" / "000000004", 4), (folder, 6)):
        plan = plan_resume(other, ResumeChoice(source), _changed(folder), is_thorough=True)
        assert plan.step == step
    SmallRun(save=KEEP_ALL).run(other, resume=ResumeChoice(folder / "state" / "000000004"))
    assert _steps(other) == [6]
    assert _steps(folder) == [2, 4, 6]
    assert losses(other) == {step: loss for step, loss in losses(folder).items() if step > 4}


def _changed(folder: Path) -> RunFacts:
    manifest = find_bundles(folder)[0][-1].manifest
    return RunFacts("another", manifest["config"], {"image": "hash"})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (ResumeChoice(step=3), "no checkpoint of step 3.*2, 4, 6"),
        (ResumeChoice(Path("/nowhere")), "expected the output folder of a job"),
    ],
)
def test_what_cannot_be_found_is_refused_with_what_there_is(folder: Path, choice: ResumeChoice, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_resume(folder, choice, _facts(), is_thorough=True)


def test_a_checkpoint_that_kept_only_its_weights_is_offered_to_nobody(tmp_path: Path) -> None:
    SmallRun(save={"max_step_saves_to_keep": 0, "max_states_to_keep": 2}).run(tmp_path)
    bundles, broken = find_bundles(tmp_path)
    assert (_steps(tmp_path), broken) == ([2, 4, 6], [])
    assert [bundle.has_state for bundle in bundles] == [False, True, True]
    assert (tmp_path / "job_000000002.safetensors").exists()
    with pytest.raises(UserError, match=r"only the weights of step 2.*max_states_to_keep.*resumed: 4, 6\. With.*: 2"):
        plan_resume(tmp_path, ResumeChoice(step=2), _facts(), is_thorough=True)
    for step in (4, 6):
        shutil.rmtree(tmp_path / "state" / f"{step:09d}")
    with pytest.raises(UserError, match=r"none that can be resumed:\n.*000000002: only the weights"):
        plan_resume(tmp_path, ResumeChoice(), _facts(), is_thorough=True)
    SmallRun().run(tmp_path, resume=ResumeChoice("none"))
    assert len(list(tmp_path.glob("superseded/*/job_000000002.safetensors"))) == 1


def test_many_kept_checkpoints_keep_few_states(tmp_path: Path) -> None:
    SmallRun(save={"save_every": 1, "max_step_saves_to_keep": 0}).run(tmp_path)
    assert len(list(tmp_path.glob("job_*.safetensors"))) == 5
    assert len(list(tmp_path.glob("state/*/optimizer.safetensors"))) == 2


def test_where_everything_is_damaged_nothing_is_overwritten(folder: Path) -> None:
    for path in folder.glob("state/*/weights.safetensors"):
        path.write_bytes(b"rot")
    with pytest.raises(UserError, match="none that can be resumed") as refusal:
        plan_resume(folder, ResumeChoice(), _facts(), is_thorough=True)
    assert str(refusal.value).count("missing or cut short") == 3
    plan = plan_resume(folder, ResumeChoice("none"), _facts(), is_thorough=True)
    assert (plan.step, [broken.step for broken in plan.superseded]) == (0, [2, 4, 6])
    SmallRun(save=KEEP_ALL).run(folder, resume=ResumeChoice("none"))
    assert len(list(folder.glob("superseded/*/state/*/weights.safetensors"))) == 3


def test_a_save_that_was_never_finished_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "state" / "000000002").mkdir(parents=True)
    plan = plan_resume(tmp_path, ResumeChoice(), _facts(), is_thorough=True)
    assert plan.step == 0
    assert "never written" in plan.notices[0]


def test_a_changed_setting_is_refused_by_name_until_it_is_accepted(folder: Path) -> None:
    changed = SmallRun({"lr": 0.5}, save=KEEP_ALL)
    with pytest.raises(UserError, match=r"train.lr: 0.01 -> 0.5\n.*--accept-config-change"):
        changed.run(folder)
    changed.run(folder, resume=ResumeChoice(step=4, accept_config_change=True))
    assert any("train.lr: 0.01 -> 0.5" in text for text in texts(folder))


def test_more_steps_go_on_with_a_notice(folder: Path) -> None:
    SmallRun({"steps": STEPS + 2}, save=KEEP_ALL).run(folder)
    assert sorted(losses(folder))[-1] == STEPS + 2
    assert any("train.steps: 6 -> 8" in text for text in texts(folder))


def test_another_optimizer_begins_without_the_state_of_the_old_one(folder: Path) -> None:
    choice = ResumeChoice(step=4, accept_config_change=True)
    SmallRun({"optimizer": "adamw8bit"}, save=KEEP_ALL).run(folder, resume=choice)
    assert any("starts without the old one's state" in text for text in texts(folder))


def test_a_finished_run_is_not_written_again(folder: Path) -> None:
    manifest = folder / "state" / "000000006" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    (folder / "job.safetensors").unlink()
    SmallRun(save=KEEP_ALL).run(folder)
    assert manifest.stat().st_mtime_ns == before
    assert (folder / "job.safetensors").exists()


def test_two_jobs_in_one_folder_do_not_share_checkpoints(folder: Path) -> None:
    with pytest.raises(UserError, match="to another job, job"):
        plan_resume(folder, ResumeChoice(), _facts(job="job_v2"), is_thorough=True)


def test_a_changed_dataset_is_reported_in_one_line() -> None:
    before = {f"{number}.png": "a" for number in range(9)}
    now = {**dict.fromkeys(list(before)[2:], "a"), "2.png": "b", "new.png": "a"}
    assert describe_dataset_change(before, now) == "1 added (new.png), 2 removed (0.png, 1.png), 1 changed (2.png)"
    assert describe_dataset_change(before, before) is None
    assert "and 4 more" in str(describe_dataset_change(before, {}))


def test_the_plan_says_where_a_run_resumes_and_what_it_moves_aside(folder: Path) -> None:
    facts = RunFacts("job", find_bundles(folder)[0][0].manifest["config"], {"image": "other"})
    lines = describe_resume(plan_resume(folder, ResumeChoice(step=2), facts, is_thorough=False))
    assert lines[0].startswith("the dataset has changed since step 2: 1 changed (image)")
    assert "resumes from step 2" in lines[1]
    assert "(4, 6)" in lines[2]
    assert "nothing is deleted" in lines[2]


@pytest.mark.parametrize("part", ["weights", "optimizer", "ema"])
def test_a_bundle_that_was_made_without_a_part_is_refused(part: str, tmp_path: Path) -> None:
    run = SmallRun({"ema_config": {"use_ema": True}})
    run.run(tmp_path)
    folder = tmp_path / "state" / "000000006"
    bundle = read_bundle(folder)
    facts = {key: value for key, value in bundle.manifest.items() if key not in ("format", "step", "files", "sha256")}
    files = {path: written for path, written in bundle.files.items() if path.stem != part}
    write_manifest(folder, files=files, facts=facts)
    with pytest.raises(UserError, match=rf"000000006: cannot be resumed, .* {part}\.safetensors"):
        run.run(tmp_path)


def test_a_run_that_begins_to_average_needs_no_average(folder: Path) -> None:
    with_average = SmallRun({"ema_config": {"use_ema": True}, "steps": 7}, save=KEEP_ALL)
    with_average.run(folder, resume=ResumeChoice(accept_config_change=True))
    assert max(losses(folder)) == 7


def test_a_finished_run_is_cooled_down_as_if_that_had_been_planned(folder: Path, tmp_path: Path) -> None:
    cooled = {"steps": STEPS + 3, "cooldown": 3}
    SmallRun(cooled, save=KEEP_ALL).run(tmp_path / "planned")
    with pytest.raises(Interrupted):
        SmallRun(cooled, save=KEEP_ALL).run(folder, stop_in=STEPS + 1)
    SmallRun(cooled, save=KEEP_ALL).run(folder)
    assert losses(folder) == losses(tmp_path / "planned")
    assert (folder / "job.safetensors").read_bytes() == (tmp_path / "planned" / "job.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"steps": 100}, {"steps": 120, "cooldown": 20}, None),
        ({"steps": 100, "lr_scheduler": "cosine"}, {"steps": 70, "lr_scheduler": "cosine"}, "params.num_steps: 100"),
        ({"steps": 100}, {"steps": 70, "cooldown": 0.5}, "train.cooldown: 10"),
        ({"steps": 100}, {"steps": 100, "lr": 2e-4}, "was going to be 0.0001 and is now 0.0002"),
        ({"steps": 100, "lr": "nonsense"}, {"steps": 100}, None),
    ],
)
def test_a_jump_of_the_learning_rate_is_announced(
    before: dict[str, object], now: dict[str, object], said: str | None
) -> None:
    lines = describe_rate_change(before, now, 60)
    assert not lines if said is None else any(said in line for line in lines)
