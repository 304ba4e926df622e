"""Jobs on several ranks, each a fork of one process that has imported everything: torch.distributed and gloo are real.

`run_groups` is what tests use; `python -m tests.jobs.forked_ranks` is the process behind it.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 240.0
_FIRST_PORT = 20_000


@dataclass(frozen=True)
class Group:
    """Ranks that run one job after another.

    Attributes:
        world: number of ranks.
        jobs: job files.
        overrides: of every job, as `--set` takes them.
    """

    world: int
    jobs: tuple[str, ...]
    overrides: tuple[str, ...] = ()


def run_groups(groups: Sequence[Group], log: Path) -> list[list[list[str]]]:
    """The status of every job on every rank, by group. What the ranks print is in the log."""
    command = [sys.executable, "-m", "tests.jobs.forked_ranks", json.dumps([asdict(group) for group in groups])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=file, timeout=_LIMIT_S, check=False
        )
    assert done.returncode == 0, log.read_text(encoding="utf-8")
    found: list[list[list[str]]] = json.loads(done.stdout)
    return found


def main() -> None:
    import jobs.process.BaseSDTrainProcess
    import toolkit.memory.sharded
    import toolkit.parallel.shards
    from toolkit.config import load_job  # noqa: F401 - imported here, before the forks

    del jobs, toolkit
    gc.collect()
    gc.freeze()
    groups = [Group(**{**group, "jobs": tuple(group["jobs"])}) for group in json.loads(sys.argv[1])]
    results = [_run_group(group, _FIRST_PORT + (os.getpid() * 7 + index) % 10_000) for index, group in enumerate(groups)]
    print(json.dumps(results))


def _run_group(group: Group, port: int) -> list[list[str]]:
    children = [_fork(group, rank, port) for rank in range(group.world)]
    found = []
    for pid, pipe in children:
        with os.fdopen(pipe, encoding="utf-8") as file:
            found.append(file.read())
        os.waitpid(pid, 0)
    return [json.loads(text) for text in found]


def _fork(group: Group, rank: int, port: int) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    code = 1
    try:
        os.dup2(2, 1)  # what it prints goes to the log
        statuses = _run_rank(group, rank, port)
        os.write(writer, json.dumps(statuses).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
        os.write(writer, b'["crashed"]')
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_rank(group: Group, rank: int, port: int) -> list[str]:
    from jobs.job import Job
    from toolkit.config import load_job
    from toolkit.parallel.launcher import Launch
    from toolkit.parallel.processes import ProcessRanks
    from toolkit.parallel.ranks import OneProcess, Ranks
    from toolkit.runtime.stop import StopRequest

    ranks: Ranks = OneProcess()
    if group.world > 1:
        ranks = ProcessRanks(Launch(rank, group.world, rank, group.world, "127.0.0.1", port))
    statuses: list[Any] = []
    for path in group.jobs:
        job = load_job(Path(path), overrides=group.overrides)
        statuses.append(Job(job, ranks=ranks).run(StopRequest()).status)
    return statuses


if __name__ == "__main__":
    main()
