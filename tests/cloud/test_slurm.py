"""config/cloud/slurm.sh, under programs that play Slurm with two machines on this one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny import ROOT, losses, write_job
from toolkit.output.run_record import read_runs

SRUN = """#!/bin/sh
# one task per machine; hands signals to all, and ends as the worst of them
trap 'kill -TERM $tasks' TERM
node=0 tasks=""
while [ "$node" -lt "$SLURM_NNODES" ]; do
    SLURM_NODEID=$node "$@" &
    tasks="$tasks $!"
    node=$((node + 1))
done
worst=0
for task in $tasks; do
    wait "$task"; code=$?
    while kill -0 "$task" 2>/dev/null; do wait "$task"; code=$?; done
    [ "$code" -gt "$worst" ] && worst=$code
done
exit "$worst"
"""
SCONTROL = """#!/bin/sh
case $1 in
    show) printf 'localhost\\nlocalhost\\n' ;;
    requeue) echo "$2" >> "$REQUEUED" ;;
esac
"""
# Joins the others, and waits for the signal that a run saves at.
WAITS = """
import os, pathlib, signal, sys, time
import torch
import torch.distributed as dist
rank, told = int(os.environ["RANK"]), []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
folder = pathlib.Path(sys.argv[1])
(folder / f"rank{rank}").write_text(f"{int(total)} of {os.environ['WORLD_SIZE']}")
while not told:
    time.sleep(0.05)
(folder / f"saved{rank}").touch()
sys.exit(130)
"""


@pytest.fixture
def machines(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script on two machines."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    slurm = {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "7"}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    ours = {"PATH": path, "PYTHON": sys.executable, "PORT": str(port), "REQUEUED": str(tmp_path / "requeued")}
    return {**os.environ, **slurm, **ours, "OMP_NUM_THREADS": "1"}


def submit(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """The batch script, run in a folder that has the trainer."""
    return subprocess.Popen(
        ["bash", "config/cloud/slurm.sh", *arguments], cwd=folder, env=environment, text=True, start_new_session=True
    )


@pytest.mark.parametrize("warning", [signal.SIGUSR1, signal.SIGTERM], ids=["time is over", "preempted"])
def test_a_warning_reaches_the_ranks_of_both_machines(
    tmp_path: Path, machines: dict[str, str], warning: signal.Signals
) -> None:
    shutil.copytree(ROOT / "config" / "cloud", tmp_path / "config" / "cloud")
    (tmp_path / "run.py").write_text(WAITS)
    job = submit(tmp_path, machines, str(tmp_path))
    ranks = [tmp_path / "rank0", tmp_path / "rank1"]
    while not all(path.exists() and path.read_text() for path in ranks):
        assert job.poll() is None
        time.sleep(0.1)
    assert [path.read_text() for path in ranks] == ["2 of 2", "2 of 2"]
    job.send_signal(warning)
    assert job.wait(timeout=60) != 0
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()
    # Slurm queues a preempted job again by itself
    assert (tmp_path / "requeued").exists() == (warning == signal.SIGUSR1)


@pytest.mark.skipif(
    not any("WORLD_SIZE" in path.read_text() for path in (ROOT / "toolkit" / "parallel").glob("*.py")),
    reason="a run has one process: no launcher is known",
)
def test_two_machines_train_one_job(tmp_path: Path, machines: dict[str, str]) -> None:
    job_file = write_job(tmp_path, train={"steps": 4})
    assert submit(ROOT, machines, str(job_file)).wait() == 0
    output = tmp_path / "output" / "job"
    assert sorted(losses(output)) == [1, 2, 3, 4]
    assert [run.status for run in read_runs(output)] == ["done"]
