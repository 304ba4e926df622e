"""The launchers that users have: torchrun, accelerate and srun start one run, and each continues the one before."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ranks.launcher import Launcher
from tests.ranks.test_same_run import is_same, write
from tests.tiny import TINY, losses

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120
RANK_1 = re.compile(r"^RANK=1$", re.MULTILINE)


def _start(command: list[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    with log.open("ab") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=variables)


def _kill_rank_1(launcher: subprocess.Popen[bytes]) -> None:
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        if RANK_1.search(Path(f"/proc/{child}/environ").read_text().replace("\0", "\n")):
            os.kill(int(child), signal.SIGKILL)
            return
    raise AssertionError("there is no rank 1")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _await(text: str, log: Path) -> None:
    until = time.monotonic() + LIMIT_S
    while text not in log.read_text() and time.monotonic() < until:
        time.sleep(0.02)


@pytest.mark.torture  # half a minute each: starts of processes that import everything
@pytest.mark.parametrize(
    "sharing", [{"sharding": "full"}, {"context_parallel": 2}], ids=lambda sharing: next(iter(sharing))
)
def test_torchrun_makes_one_run_of_ranks_that_share_the_model(
    sharing: dict[str, Any], launcher: Launcher, tmp_path: Path
) -> None:
    """It is stopped, gone on with by one process, killed on one rank, and restarted by torchrun."""
    steps, per_group = 40, sharing.get("context_parallel", 1)
    train = {"batch_size": 1, "steps": steps}
    whole, folder = tmp_path / "whole", tmp_path / "parts"
    alone = write(whole, TINY, accumulation=2 // per_group, train=train)
    assert launcher.run(whole, 1, str(alone)).codes == [0]
    job, log = str(write(folder, TINY, train={**train, **sharing})), folder / "log.txt"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]

    process = _start([*torchrun, "run.py", job], log)
    _await("\nsaved ", log)
    process.send_signal(signal.SIGINT)
    process.wait(LIMIT_S)
    stopped = re.search(r"Stopped after step (\d+) and saved", log.read_text())
    assert stopped is not None, log.read_text()

    more = [f"train.gradient_accumulation={2 // per_group}", f"train.steps={int(stopped[1]) + 3}"]
    end = launcher.run(folder, 1, job, *(word for one in more for word in ("--set", one)))
    assert end.codes == [0], end.text

    log.write_text("")
    process = _start([*torchrun, "run.py", job], log)
    _await("\nsaved ", log)
    _kill_rank_1(process)
    assert process.wait(LIMIT_S) == 0, log.read_text()
    assert log.read_text().count("has ended without a message") == 1, log.read_text()
    outputs = [path / "output" / "job" for path in (folder, whole)]
    assert losses(outputs[0]) == pytest.approx(losses(outputs[1]), rel=1e-4)


@pytest.mark.torture  # a minute: four starts of two processes that import everything
def test_three_launchers_make_one_run(launcher: Launcher, smallest_model: Path, tmp_path: Path) -> None:
    whole, folder, steps = tmp_path / "whole", tmp_path / "parts", 200
    more = ["--set", f"train.steps={steps}", "--set", "save.save_every=20", "--set", "save.max_step_saves_to_keep=1"]
    assert launcher.run(whole, 1, str(write(whole, smallest_model, accumulation=2)), *more).codes == [0]
    run, log = ["run.py", str(write(folder, smallest_model)), *more], folder / "log.txt"

    module = [sys.executable, "-m"]
    restarting = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    torchrun = _start([*module, *restarting, *run, "--set", "train.steps=120"], log)
    _await("\nsaved ", log)
    _kill_rank_1(torchrun)
    assert torchrun.wait(LIMIT_S) == 0, log.read_text()
    assert log.read_text().count("has ended without a message") == 1, log.read_text()
    assert "resuming from step" in log.read_text()

    accelerate = [
        *module,
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes=2",
        f"--main_process_port={_free_port()}",
    ]
    process = _start([*accelerate, *run, "--set", "train.steps=160"], log)
    assert process.wait(LIMIT_S) == 0, log.read_text()

    shared = {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    ranks = [
        _start([sys.executable, *run], log, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **shared)
        for rank in range(2)
    ]
    assert [rank.wait(LIMIT_S) for rank in ranks] == [0, 0], log.read_text()
    assert is_same(folder, whole)


@pytest.mark.torture  # a quarter of a minute: two agents, each of which starts a process that imports everything
def test_two_machines_with_different_datasets_are_refused_by_name(smallest_model: Path, tmp_path: Path) -> None:
    """Each agent of torchrun is one machine, with a drive of its own."""
    jobs = [write(tmp_path / machine, smallest_model) for machine in ("here", "there")]
    (tmp_path / "there" / "images" / "3.txt").write_text("another caption")
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    place = ["--master-addr=127.0.0.1", f"--master-port={_free_port()}"]
    logs = [job.with_suffix(".log") for job in jobs]
    agents = [
        _start([*agent, *place, f"--node-rank={node}", "run.py", str(job)], log)
        for node, (job, log) in enumerate(zip(jobs, logs, strict=True))
    ]
    assert all(agent.wait(LIMIT_S) != 0 for agent in agents)
    printed = "".join(log.read_text() for log in logs)
    assert printed.count("The ranks differ from rank 0") == 1, printed
    assert re.search(r"rank 1 \(.*\): dataset: 3\.png \(", printed), printed
    assert "== train ==" not in printed
