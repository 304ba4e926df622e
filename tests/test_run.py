"""run.py as a user sees it: a copy of the trainer with an extension whose processes end in every way there is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import run as command_line

ROOT = Path(__file__).resolve().parent.parent
EXTENSION = """
import os
import time
import types

from jobs.process.BaseProcess import BaseProcess
from jobs.process.checked import Checked
from toolkit.errors import Interrupted, UserError
from toolkit.config_modules import ProcessConfig
from toolkit.extension import Extension


class Own(ProcessConfig):
    text: str


class Writes(BaseProcess):
    @classmethod
    def check(cls, start):
        return Checked(start, (f"plan of {start.job.name}, text {start.config.text}",))

    def run(self, stop):
        (self.output_folder / self.config.text).touch()


class Fails(Writes):
    def run(self, stop):
        raise UserError("no paper")


class Works(BaseProcess):
    @classmethod
    def check(cls, start):
        return Checked(start, (f"plan of {start.job.name}, seed {start.config.training_seed}",))

    def run(self, stop):
        (self.output_folder / "ran").touch()


class Refuses(Works):
    @classmethod
    def check(cls, start):
        raise UserError("no images in the folder")


class CannotGoOn(Works):
    def run(self, stop):
        raise UserError("the disk is full: " + os.environ.get("HF_TOKEN", ""))


class Crashes(Works):
    def run(self, stop):
        raise ZeroDivisionError("a fault of ours: " + os.environ.get("HF_TOKEN", ""))


class Waits(Works):
    def run(self, stop):
        print("training", flush=True)
        while not stop.requested:
            time.sleep(0.01)
        (self.output_folder / "saved").touch()
        raise Interrupted("stopped at step 7; saved")


class NeverStops(Works):
    def run(self, stop):
        print("training", flush=True)
        while True:
            time.sleep(0.01)


def _extension(process):
    class Named(Extension):
        uid = process.__name__
        name = process.__name__
        config = Own if issubclass(process, Writes) else Extension.config

        @classmethod
        def get_process(cls):
            return process

    return Named


AI_TOOLKIT_EXTENSIONS = [_extension(p) for p in (Writes, Fails, Works, Refuses, CannotGoOn, Crashes, Waits, NeverStops)]
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trainer with the extension above and a broken one."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("toolkit", "jobs", "extensions_built_in"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", folder)
    for name, text in (("pretend", EXTENSION), ("torn", "import no_such_library")):
        (folder / "extensions" / name).mkdir(parents=True)
        (folder / "extensions" / name / "__init__.py").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., str]:
    """Writes a job file for a process type and returns its path."""
    (tmp_path / "images").mkdir()

    def write(kind: str, **settings: object) -> str:
        process = {
            "type": kind,
            "training_folder": "out",
            "model": {"name_or_path": "a/model", "arch": "flux2"},
            "network": {"type": "lora"},
            "datasets": [{"folder_path": str(tmp_path / "images")}],
            **settings,
        }
        path = tmp_path / f"{kind}.yaml"
        path.write_text(yaml.safe_dump({"job": "extension", "config": {"name": f"my_{kind}", "process": [process]}}))
        return str(path)

    return write


@pytest.fixture
def start(checkout: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts run.py in an empty folder."""

    def begin(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(checkout / "run.py"), *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    """Runs run.py to its end. Gives exit code, stdout, stderr."""

    def whole(*arguments: str, **environment: str) -> tuple[int, str, str]:
        process = start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return whole


Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., subprocess.Popen[str]]
Write = Callable[..., str]


def test_a_job_that_works_ends_with_0_and_a_summary(run: Run, job: Write, tmp_path: Path) -> None:
    code, out, err = run(job("Works"))
    assert code == 0
    assert "plan of my_Works" in out
    assert "Summary\n  my_Works  done" in out
    assert str(Path("out") / "my_Works") in out
    assert (tmp_path / "out" / "my_Works" / "ran").exists()
    assert "Extension extensions.torn is broken and was skipped" in err, "it is named, and does no harm"
    assert "no_such_library" in err


def _write_own(folder: Path, kind: str, **settings: object) -> str:
    """A job file for a process that trains nothing."""
    path = folder / "own.yaml"
    process = {"type": kind, "training_folder": "out", **settings}
    path.write_text(yaml.safe_dump({"job": "extension", "config": {"name": "own", "process": [process]}}))
    return str(path)


def test_a_process_that_trains_nothing_needs_no_setting_of_training(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(_write_own(tmp_path, "Writes", text="hello"), "--no-cache", "--set", "text=bye", SEED="7")
    assert code == 0
    assert "plan of own, text bye" in out
    assert (tmp_path / "out" / "own" / "bye").exists()
    (start, _) = map(json.loads, (tmp_path / "out" / "own" / "runs.jsonl").read_text().splitlines())
    assert "seed" not in start


def test_a_process_that_trains_nothing_has_no_checkpoint_to_miss(run: Run, tmp_path: Path) -> None:
    code, _, err = run(_write_own(tmp_path, "Fails", text="hello"))
    assert code == 1
    assert "no paper" in err
    assert f"The run in {Path('out') / 'own'} has stopped.\n" in err


def test_the_settings_of_an_extension_are_checked_as_ours(run: Run, tmp_path: Path) -> None:
    code, _, err = run(_write_own(tmp_path, "Writes", txt="hello", text=3))
    assert code == 2
    assert 'config.process[0].txt: unknown key (found "hello"). Did you mean `text`?' in err
    assert "config.process[0].text: needs text (put a number in quotes to make it text) (found 3)" in err


def test_a_kind_of_job_that_is_not_supported_is_one_line(run: Run, job: Write, tmp_path: Path) -> None:
    path = Path(job("Works", base_model="a", extract=3))
    path.write_text(path.read_text().replace("job: extension", "job: train"))
    code, _, err = run(str(path))
    assert code == 2
    assert (
        f'{path} has 1 mistake\n  job: "train" is not supported yet. Choose extension, generate, extract or mod\n'
        in err
    )


def test_no_job_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert _usage_error() == 2
    assert "no job file given" in capsys.readouterr().err


def _usage_error(*arguments: str) -> int:
    """The exit code of a command line that is wrong in itself: no process is needed to see it."""
    with pytest.raises(SystemExit) as ended:
        command_line.main(list(arguments))
    return int(ended.value.code or 0)


def test_mistakes_in_all_files_are_shown_before_any_job_starts(run: Run, job: Write, tmp_path: Path) -> None:
    good, bad = job("Works"), job("Crashes", train={"lrr": 1})
    code, _, err = run(good, bad, "nothing.yaml")
    assert code == 2
    assert "config.process[0].train.lrr" in err
    assert "nothing.yaml" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_work_is_refused_before_anything_is_written(run: Run, job: Write, tmp_path: Path) -> None:
    code, out, err = run(job("Refuses"))
    assert code == 2
    assert "no images in the folder" in err
    assert "my_Refuses  refused" in out
    assert not (tmp_path / "out").exists()


def test_a_users_mistake_in_a_run_has_no_traceback(run: Run, job: Write, tmp_path: Path) -> None:
    code, out, err = run(job("CannotGoOn"))
    assert code == 1
    assert "the disk is full" in err
    assert "Traceback" not in err
    assert "my_CannotGoOn  failed" in out
    event, end = map(json.loads, (tmp_path / "out" / "my_CannotGoOn" / "events.jsonl").read_text().splitlines())
    assert (end["kind"], end["status"], end["exit_code"]) == ("end", "failed", 1)
    assert (event["kind"], event["error"], event["traceback"]) == ("error", "UserError", "")


def test_a_fault_of_ours_shows_its_traceback_and_is_logged(run: Run, job: Write, tmp_path: Path) -> None:
    code, _, err = run(job("Crashes"))
    assert code == 1
    assert "Traceback" in err
    assert "ZeroDivisionError: a fault of ours" in err
    event, end = map(json.loads, (tmp_path / "out" / "my_Crashes" / "events.jsonl").read_text().splitlines())
    assert (end["kind"], end["status"], end["exit_code"]) == ("end", "failed", 1)
    assert event["kind"] == "error"
    assert "ZeroDivisionError" in event["traceback"]


def test_a_dead_run_leaves_word_of_what_is_safe_and_how_to_continue(run: Run, job: Write) -> None:
    path = job("Crashes")
    _, _, err = run("--set", "train.steps=20", "--from-step", "3", path)
    assert f"The run in {Path('out') / 'my_Crashes'} has stopped; it has no checkpoint yet." in err
    assert err.rstrip().endswith(f"To continue, run:  python run.py {path} --set train.steps=20")
    assert "Once that is fixed, continue with:" in run(job("CannotGoOn"))[2]


def test_every_start_is_recorded_and_status_shows_how_it_ended(run: Run, job: Write, tmp_path: Path) -> None:
    secret = {"HF_TOKEN": "hf_verysecret"}
    run(
        "-r",
        *(job(kind, name="shared", trigger_word="${HF_TOKEN}") for kind in ("Works", "Crashes", "CannotGoOn")),
        **secret,
    )
    code, out, _ = run("--status", str(tmp_path / "out" / "shared"))
    assert code == 0
    assert [word for word in ("done, ", "failed, ") for line in out.splitlines() if word in line] == [
        "done, ", "failed, ", "failed, ",
    ]  # fmt: skip
    assert "ZeroDivisionError: a fault of ours: ${HF_TOKEN}" in out
    record = (tmp_path / "out" / "shared" / "runs.jsonl").read_text()
    assert '"seed": 42' in record
    assert "hf_verysecret" not in record
    assert run("--status", "nothing")[0] == 2


def test_a_killed_run_is_known_as_such(start: Start, run: Run, job: Write, tmp_path: Path) -> None:
    process = start(job("Waits"))
    _wait_for("training", process)
    process.kill()
    process.communicate(timeout=60)
    assert "killed, " in run("--status", str(tmp_path / "out" / "my_Waits"))[1]


@pytest.mark.parametrize("arguments", [("--resume", "none", "--from-step", "3"), ("--resume", "a", "other.yaml")])
def test_options_that_contradict_each_other_are_a_usage_error(job: Write, arguments: tuple[str, ...]) -> None:
    assert _usage_error(job("Works"), *arguments) == 2


def test_a_secret_of_the_job_file_is_not_shown_when_it_fails(run: Run, job: Write, tmp_path: Path) -> None:
    for kind in ("CannotGoOn", "Crashes"):
        _, out, err = run(job(kind, trigger_word="${HF_TOKEN}"), HF_TOKEN="hf_verysecret")
        log = (tmp_path / "out" / f"my_{kind}" / "events.jsonl").read_text()
        assert "hf_verysecret" not in out + err + log
        assert "${HF_TOKEN}" in err


def test_a_failure_ends_the_queue(run: Run, job: Write) -> None:
    code, out, _ = run(job("CannotGoOn"), job("Works"))
    assert code == 1
    assert "my_Works       not started" in out


def test_with_recover_the_queue_continues_and_the_exit_code_is_still_that_of_a_failure(run: Run, job: Write) -> None:
    code, out, _ = run("-r", job("CannotGoOn"), job("Works"))
    assert code == 1
    assert "my_CannotGoOn  failed" in out
    assert "my_Works       done" in out


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to a child")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_run_save_and_ends_the_queue_with_130(
    start: Start, job: Write, tmp_path: Path, number: signal.Signals
) -> None:
    process = start("-r", job("Waits"), job("Works"))
    _wait_for("training", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (tmp_path / "out" / "my_Waits" / "saved").exists()
    assert "stopped at step 7; saved" in err
    assert "my_Waits  interrupted" in out
    assert "my_Works  not started" in out


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to a child")
def test_a_second_signal_ends_at_once_and_the_folder_is_free_again(start: Start, run: Run, job: Write) -> None:
    never = job("NeverStops")
    process = start(never)
    _wait_for("training", process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)  # two at once are one
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "my_NeverStops  interrupted" in out
    assert "A second Ctrl+C" in err
    code, out, _ = run(job("Works", name="my_NeverStops"))
    assert code == 0
    assert "Took over" not in out


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to a child")
def test_a_second_run_in_the_same_folder_is_refused_and_touches_nothing(start: Start, run: Run, job: Write) -> None:
    waits = job("Waits")
    process = start(waits)
    _wait_for("training", process)
    code, _, err = run(waits)
    assert code == 1
    assert f"in use by process {process.pid}" in err
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (Path(waits).parent / "out" / "my_Waits" / "events.jsonl").exists()


def test_check_prints_the_plan_and_runs_nothing(run: Run, job: Write, tmp_path: Path) -> None:
    code, out, _ = run("--check", job("Works"), job("Crashes"))
    assert code == 0
    assert "plan of my_Works" in out
    assert "plan of my_Crashes" in out
    assert not (tmp_path / "out").exists()


def test_a_card_to_plan_for_goes_with_check(run: Run, job: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--check", "--vram", "24", job("Works"))[0] == 0
    for arguments in (["--vram", "24"], ["--check", "--vram", "0"]):
        assert _usage_error(*arguments, job("Works")) == 2
        assert "--vram works only with --check" in capsys.readouterr().err


def test_check_of_data_that_cannot_work_ends_with_2(run: Run, job: Write) -> None:
    code, out, err = run("--check", job("Refuses"), job("Works"))
    assert code == 2
    assert "no images in the folder" in err
    assert "plan of my_Works" in out


@pytest.mark.parametrize("name", [pytest.param("train.log", marks=pytest.mark.torture), "logs/new/train.log"])
def test_the_log_gets_what_both_streams_print(run: Run, job: Write, tmp_path: Path, name: str) -> None:
    for _ in range(2):
        run("-l", name, job("Crashes"))
    log = (tmp_path / name).read_text()
    assert log.count("plan of my_Crashes") == 2
    assert log.count("ZeroDivisionError: a fault of ours") == 2
    assert log.count("my_Crashes  failed") == 2


def test_a_log_that_cannot_be_written_is_a_usage_error(run: Run, job: Write, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = run("-l", "file/train.log", job("Works"))
    assert code == 2
    assert "Cannot write the log" in err


def test_set_changes_the_job(run: Run, job: Write, tmp_path: Path) -> None:
    assert run("--set", "training_folder=elsewhere", job("Works"))[0] == 0
    assert (tmp_path / "elsewhere" / "my_Works").is_dir()


def test_the_seed_variable_counts_only_where_the_job_has_none(run: Run, job: Write) -> None:
    assert "plan of my_Works, seed 7" in run("--check", job("Works"), SEED="7")[1]
    assert "plan of my_Works, seed 3" in run("--check", job("Works", training_seed=3), SEED="7")[1]


def test_a_seed_variable_that_is_no_number_is_refused(run: Run, job: Write) -> None:
    code, _, err = run("--check", job("Works"), SEED="seven")
    assert code == 2
    assert "training_seed" in err


def test_an_unknown_process_type_is_refused_with_the_known_ones(run: Run, job: Write) -> None:
    code, _, err = run(job("Work"))
    assert code == 2
    assert "config.process[0].type" in err
    assert "Works" in err
    assert "sd_trainer" in err


def test_list_models_shows_every_arch(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--list-models"]) == 0
    title, *archs = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert title == "arch"
    assert [arch for arch in archs if arch.startswith("flux")] == [
        "flux", "flux2", "flux2_klein_4b", "flux2_klein_9b", "flux2_klein_9b_kv", "flux2_tiny", "flux_kontext",
    ]  # fmt: skip


def _wait_for(word: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"{word} was never printed")


def test_the_web_page_gets_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def main(arguments: list[str]) -> int:
        given.extend(arguments)
        return 3

    server = types.ModuleType("ui.server.main")
    server.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ui.server.main", server)
    assert command_line.main(["ui", "--port", "9000", "--no-browser"]) == 3
    assert given == ["--port", "9000", "--no-browser"]


def test_without_the_packages_of_the_web_page_the_command_to_install_them_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "UI_PACKAGES", ("no_such_package",))
    assert command_line.main(["ui"]) == 2
    shown = capsys.readouterr().err
    assert "no_such_package" in shown and "-m pip install -r" in shown


def test_the_packages_of_the_web_page_are_among_the_requirements() -> None:
    required = (ROOT / "requirements.txt").read_text()
    assert all(f"{package}==" in required for package in command_line.UI_PACKAGES)
