"""Starts run.py as several ranks at once, from a process that has imported everything: what torchrun does, in no time.

`Launcher` is what tests use; `python -m tests.ranks.launcher` is the process behind it. Each rank is a fork that is
run.py from `main` on. As torchrun does, it asks the others to end once a rank has failed, and kills them 30 s later.
The table through which the ranks find each other is hosted by the tests' process, as torchrun hosts it in its own.
"""

from __future__ import annotations

import datetime
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.ranks.trouble import Trouble
from tests.reliability.fork_server import Served, serve

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 100.0
KILL_S = 30.0


@dataclass(frozen=True)
class End:
    """How a run of several ranks ended.

    Attributes:
        codes: the exit code of each rank; negative if it was killed by that signal.
        seconds: from the start to the end of the last.
        after_s: from the end of the first to that of the last.
        printed: what each rank printed.
    """

    codes: Sequence[int]
    seconds: float
    after_s: float
    printed: Sequence[str]

    @property
    def text(self) -> str:
        """What all of them printed."""
        return "".join(self.printed)


@dataclass(frozen=True)
class _Request:
    arguments: Sequence[Sequence[str]]
    environments: Sequence[Mapping[str, str]]
    logs: Sequence[str]
    troubles: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


class Launcher(Served):
    """Starts runs, one at a time."""

    module = "tests.ranks.launcher"

    def run(
        self,
        folder: Path,
        world: int,
        *arguments: str,
        troubles: Sequence[Trouble] = (),
        environment: Mapping[str, str] | None = None,
        own: Mapping[int, Sequence[str]] | None = None,
    ) -> End:
        """Start run.py as `world` ranks and wait for the end of all; one rank is started without a launcher.

        Args:
            folder: for what they print.
            world: number of ranks.
            arguments: of run.py.
            troubles: what befalls them.
            environment: further variables.
            own: rank -> its arguments, where they differ from the others'.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=datetime.timedelta(seconds=60))
        shared = {
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        places = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {} for rank in range(world)]
        folder.mkdir(parents=True, exist_ok=True)
        logs = [folder / f"rank{rank}.txt" for rank in range(world)]
        request = _Request(
            [list((own or {}).get(rank, arguments)) for rank in range(world)],
            [{**(environment or {}), **place} for place in places],
            list(map(str, logs)),
            [asdict(trouble) for trouble in troubles],
        )
        return End(**self.ask(asdict(request)), printed=[log.read_text(errors="replace") for log in logs])


def _launch(request: _Request) -> dict[str, Any]:
    began = time.monotonic()
    alive = {_fork(request, rank): rank for rank in range(len(request.logs))}
    codes: dict[int, int] = {}
    ended: list[float] = []
    failed: float | None = None
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            codes[alive.pop(pid)] = os.waitstatus_to_exitcode(status)
            ended.append(time.monotonic())
            if failed is None and any(codes.values()):
                failed = time.monotonic()
                _signal(alive, signal.SIGTERM)
        elif time.monotonic() > (failed + KILL_S if failed is not None else began + LIMIT_S):
            _signal(alive, signal.SIGKILL)
        time.sleep(0.005)
    return {
        "codes": [codes[rank] for rank in sorted(codes)],
        "seconds": time.monotonic() - began,
        "after_s": ended[-1] - ended[0],
    }


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process, number)


def _fork(request: _Request, rank: int) -> int:
    child = os.fork()
    if child == 0:
        _be_a_rank(request, rank)
    return child


def _be_a_rank(request: _Request, rank: int) -> None:
    """Be run.py, and leave without a word to the launcher's own buffers."""
    code = 1
    try:
        handle = os.open(request.logs[rank], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.environ.update(request.environments[rank])
        for trouble in request.troubles:
            Trouble(**trouble).await_on(rank)
        import run

        code = run.main(request.arguments[rank])
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(lambda request: _launch(_Request(**request)))
