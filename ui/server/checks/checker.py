"""The trainer's own check, carried out as someone types; in a process of its own where it needs a model's class."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from jobs.check_json import job_facts, unreadable_facts
from jobs.job import Job
from toolkit.config import JobConfig, load_job
from toolkit.config.reading.installed import find_known
from toolkit.errors import UserError
from toolkit.extension import REPOSITORY
from toolkit.files import sha256_json
from toolkit.train.resume import ResumeChoice
from ui.server.checks.worker import CheckWorker
from ui.server.jobs.text import TextFolder

_HEAVY = {"torch", "transformers", "diffusers", "peft", "accelerate", "optimum"}
_TIMEOUT_S = 180.0
_KEPT = 64
_REFUSED_S = 30.0


class _NeedsTorch(Exception):
    """A check wants a library that this process must not load."""


@dataclass(frozen=True)
class CheckInputs:
    """What is to be checked.

    Attributes:
        text: of the job.
        vram_gb: plan for a card of this size instead of this machine.
        resume: `latest` or `none`.
        from_step: continue from this checkpoint.
        accept: continue although settings that shape the training have changed.
    """

    text: str
    vram_gb: float | None = None
    resume: str = "latest"
    from_step: int | None = None
    accept: bool = False


@dataclass(frozen=True)
class CheckResult:
    """What a check has found.

    Attributes:
        facts: the entry of a job in `run.py --check --json`.
        config: the job; None if its text has mistakes.
    """

    facts: dict[str, Any]
    config: JobConfig | None


class Checker:
    """Checks job texts. What takes a process of its own is asked once for each text."""

    def __init__(self, texts: TextFolder) -> None:
        self.texts = texts
        self.worker = CheckWorker()
        self._answers: dict[str, dict[str, Any]] = {}
        self._refused: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def check(self, asked: CheckInputs) -> CheckResult:
        """What is to be said about a job text."""
        find_known()  # a user's extension may load what it likes
        with self.texts.file(asked.text) as path:
            config: JobConfig | None = None
            try:
                with _without_torch():
                    config = load_job(path)
                    facts = job_facts(config, list(self._job(config, asked).checks()))
            except _NeedsTorch:
                facts = self._of_same_parts(config) or self._elsewhere(path, asked)
                self._remember(config, facts)
            except UserError as error:
                facts = unreadable_facts(str(path), error)
            return CheckResult(_named(facts, str(path)), config)

    def close(self) -> None:
        """End the process that checks what this one cannot."""
        self.worker.close()

    def peaks(self, text: str) -> tuple[list[int], int] | None:
        """The most bytes of each card and of RAM that a job takes; None if nothing is predicted, or it cannot work."""
        for process in self.check(CheckInputs(text)).facts["processes"]:
            memory = process.get("memory")
            if memory and process["ok"]:
                return [int(peak) for peak in memory["card_peaks"]], int(memory["peak_ram_bytes"])
        return None

    def _of_same_parts(self, config: JobConfig | None) -> dict[str, Any] | None:
        """What was found wrong a moment ago with a job of the same parts: typing on does not repeat the wait."""
        refused_at, facts = self._refused.get(_parts_key(config), (0.0, None))
        return facts if time.monotonic() - refused_at < _REFUSED_S else None

    def _remember(self, config: JobConfig | None, facts: dict[str, Any]) -> None:
        if facts["ok"] or config is None:
            self._refused.pop(_parts_key(config), None)
        elif _parts_key(config) not in self._refused or self._of_same_parts(config) is None:
            self._refused[_parts_key(config)] = time.monotonic(), facts
            while len(self._refused) > _KEPT:
                self._refused.pop(next(iter(self._refused)), None)

    def _job(self, config: JobConfig, asked: CheckInputs) -> Job:
        source: Any = asked.resume
        choice = ResumeChoice(source, asked.from_step, asked.accept)
        return Job(config, resume=choice, vram_gb=asked.vram_gb)

    def _elsewhere(self, path: Path, asked: CheckInputs) -> dict[str, Any]:
        """The same in a process of its own, which also remembers what it has found in the model's files."""
        key = sha256_json([asked.text, asked.vram_gb, asked.resume, asked.from_step, asked.accept])
        with self._lock:
            if key in self._answers:
                return self._answers[key]
        options = {
            "vram_gb": asked.vram_gb,
            "resume": asked.resume,
            "from_step": asked.from_step,
            "accept": asked.accept,
        }
        try:
            facts = self.worker.facts(path, options, timeout_s=_TIMEOUT_S)
        except TimeoutError:
            return _timed_out(path)
        facts = facts or self._of_command(path, asked)
        if facts.get("ok"):
            with self._lock:
                self._answers[key] = facts
                while len(self._answers) > _KEPT:
                    del self._answers[next(iter(self._answers))]
        return facts

    def _of_command(self, path: Path, asked: CheckInputs) -> dict[str, Any]:
        """The same by the command line, where a long check keeps the process busy, or it has failed."""
        command = [sys.executable, str(REPOSITORY / "run.py"), "--check", "--json", str(path), "--resume", asked.resume]
        command += ["--vram", str(asked.vram_gb)] if asked.vram_gb is not None else []
        command += ["--from-step", str(asked.from_step)] if asked.from_step is not None else []
        command += ["--accept-config-change"] if asked.accept else []
        try:
            done = subprocess.run(
                command, cwd=REPOSITORY, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
            )
            return dict(json.loads(done.stdout)["jobs"][0])
        except subprocess.TimeoutExpired:
            return _timed_out(path)
        except (ValueError, LookupError, TypeError, OSError):
            last = done.stderr.strip().splitlines()[-1:] if "done" in locals() else []
            return unreadable_facts(str(path), UserError("The check failed: " + " ".join(last)))


def _timed_out(path: Path) -> dict[str, Any]:
    return unreadable_facts(str(path), UserError(f"The check timed out after {_TIMEOUT_S:g} s."))


def _parts_key(config: JobConfig | None) -> str:
    """Equal for jobs whose model, network, images and samples are the same: what is judged apart from the rest."""
    if config is None:
        return ""
    process = config.config.process[0].model_dump(mode="json")
    return sha256_json({key: value for key, value in process.items() if key not in ("train", "save", "logging")})


class _Barrier(MetaPathFinder):
    """Stands before every other finder, and lets no heavy library through where a thread has asked for that."""

    def __init__(self) -> None:
        self.guarded = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if getattr(self.guarded, "is_on", False) and fullname.partition(".")[0] in _HEAVY:
            raise _NeedsTorch(fullname)
        return None


_barrier = _Barrier()


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    if _barrier not in sys.meta_path:
        sys.meta_path.insert(0, _barrier)
    _barrier.guarded.is_on = "torch" not in sys.modules
    try:
        yield
    finally:
        _barrier.guarded.is_on = False


def _named(facts: dict[str, Any], path: str) -> dict[str, Any]:
    """The same without the name of the file that the text was put into."""
    text = json.dumps(facts, ensure_ascii=True)
    name = json.dumps(path)[1:-1]
    return dict(json.loads(text.replace(name, "job.yaml").replace(Path(path).name, "job.yaml")))
