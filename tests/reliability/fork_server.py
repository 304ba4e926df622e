"""A process that has imported everything once, and forks a child for each run: a start costs milliseconds, not seconds.

`ForkServer` is what tests use; `python -m tests.reliability.fork_server` is the process behind it. A child is the real
trainer from `run_jobs` on. It is armed and bugged, if asked to be, after the fork: the server stays clean.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from tests.reliability.faults import Aim, Faults
from toolkit.adapters.choices import ADAPTERS
from toolkit.objectives.choices import OBJECTIVES

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0
_POLL_S = 0.001


@dataclass(frozen=True)
class Start:
    """One start of a job.

    Attributes:
        job: the job file.
        name: of this start; its log, notes and counts are files of that name beside the job.
        aim: where it dies, or gets signals.
        kill_after_s: when it is killed from outside.
        bug: a key of `planted_bugs.BUGS`.
        seed: for how much of a torn file is left.
    """

    job: Path
    name: str
    aim: Aim | None = None
    kill_after_s: float | None = None
    bug: str | None = None
    seed: int = 0

    def file(self, kind: str) -> Path:
        """`log` (what it printed), `notes` (its losses) or `counts` (operations by place)."""
        return self.job.parent / f"{self.name}.{kind}"


@dataclass(frozen=True)
class End:
    """How a start ended: `killed`, or with a status of `JobResult`, or `crashed`; and how long it took."""

    how: str
    seconds: float


class Served:
    """A prepared process that answers requests, a line of JSON each, one at a time; `serve` is its other end."""

    module: ClassVar[str]
    """What the process runs."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"{self.module} has died"
        return dict(json.loads(answer))


def serve(answer: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Import everything, then answer requests until stdin ends."""
    import_everything()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing but answers may get in there
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


class ForkServer(Served):
    """Starts jobs in children of one prepared process. For more than one at a time, take more servers."""

    module = "tests.reliability.fork_server"

    def run(self, start: Start) -> End:
        """Start a job and wait for its end."""
        aim = start.aim.to_json() if start.aim else None
        return End(**self.ask({**vars(start), "job": str(start.job), "aim": aim}))


def _answer(request: dict[str, Any]) -> Mapping[str, Any]:
    aim = Aim(**request.pop("aim")) if request["aim"] else request.pop("aim")
    return vars(_fork(Start(**{**request, "job": Path(request["job"]), "aim": aim})))


def import_everything() -> None:
    """All that a job imports. One thread, set before any operation: a fork of a process with threads may hang."""
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    Image.init()  # all its formats, as the first picture that is looked for does

    for name in (
        "extensions_built_in.diffusion_models.flux2.flux2_model",
        "extensions_built_in.generator.generator",
        "extensions_built_in.sd_trainer.SDTrainer",
        "jobs.in_a_row",
        "peft",  # which the pipelines of diffusers import when they draw
        "tests.reliability.planted_bugs",
        "tests.reliability.witness",
        "toolkit.encode.vision_model",
        "toolkit.report.page",
        "transformers.models.siglip.image_processing_pil_siglip",
        "transformers.models.siglip.modeling_siglip",
    ):
        importlib.import_module(name)
    for choice in (*ADAPTERS.values(), *OBJECTIVES.values()):
        choice.load()

    gc.collect()
    gc.freeze()  # what is here stays; a child that collects it again and again would do little else


def _fork(start: Start) -> End:
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_child(start)
    limit = LIMIT_S if start.kill_after_s is None else start.kill_after_s
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - began >= limit:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        time.sleep(_POLL_S)
    seconds = time.monotonic() - began
    if seconds >= LIMIT_S:
        return End("hung", seconds)
    if os.WIFSIGNALED(status):
        return End("killed" if os.WTERMSIG(status) == signal.SIGKILL else "crashed", seconds)
    return End(_STATUSES[os.WEXITSTATUS(status)], seconds)


_STATUSES = ("done", "failed", "refused", "interrupted", "not started", "crashed")


def _be_the_child(start: Start) -> None:
    """Run the job as the command line would, and leave without a word to the server's own buffers."""
    code = _STATUSES.index("crashed")
    try:
        _redirect_output(start.file("log"))
        code = _STATUSES.index(_run(start))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(start: Start) -> Any:
    from jobs.in_a_row import run_jobs
    from jobs.job import Job
    from tests.reliability.planted_bugs import BUGS
    from tests.reliability.witness import watch_steps
    from toolkit.config import load_job
    from toolkit.runtime.stop import StopRequest

    if start.bug is not None:
        BUGS[start.bug].plant()
    watch_steps(start.file("notes"))
    faults = Faults(start.aim, seed=start.seed)
    faults.arm()
    stop = StopRequest()
    with stop.listen():
        (result,) = run_jobs([Job(load_job(start.job))], stop, recover=False)
    faults.write_counts(start.file("counts"))
    return result.status


def _redirect_output(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)


if __name__ == "__main__":
    serve(_answer)
