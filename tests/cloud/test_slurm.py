"""config/cloud/slurm.sh, under programs that play Slurm with two machines on this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reliability.smallest_model import write_smallest_model
from tests.tiny import ROOT, losses, write_job
from toolkit.output.bundles import newest_bundle
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
# In the place of Python: says what it was started with, and waits for the signal that a run saves at.
WAITS = """#!/bin/sh
trap 'touch "$NOTES/saved$NODE_RANK"; exit 130' TERM
echo "$@" > "$NOTES/given$NODE_RANK.new"
mv "$NOTES/given$NODE_RANK.new" "$NOTES/given$NODE_RANK"
while :; do sleep 0.1; done
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
def test_a_warning_reaches_both_machines(tmp_path: Path, machines: dict[str, str], warning: signal.Signals) -> None:
    waits = tmp_path / "bin" / "waits"
    waits.write_text(WAITS)
    waits.chmod(0o755)
    job = submit(ROOT, {**machines, "PYTHON": str(waits), "NOTES": str(tmp_path)}, "job.yaml")
    given = [tmp_path / f"given{node}" for node in (0, 1)]
    while not all(path.exists() for path in given):
        assert job.poll() is None
        time.sleep(0.05)
    for node, path in enumerate(given):
        words = path.read_text().split()
        assert {"--nnodes=2", f"--node-rank={node}", str(ROOT / "run.py")} < set(words) and words[-1] == "job.yaml"
    job.send_signal(warning)
    assert job.wait(timeout=60) != 0
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()
    # Slurm queues a preempted job again by itself
    assert (tmp_path / "requeued").exists() == (warning == signal.SIGUSR1)


@pytest.mark.parametrize("goes_on", [False, pytest.param(True, marks=pytest.mark.torture)])
def test_two_machines_train_one_job_until_their_time_is_over(
    goes_on: bool, tmp_path: Path, machines: dict[str, str]
) -> None:
    smallest = {"name_or_path": str(write_smallest_model(tmp_path / "model"))}
    job_file = write_job(tmp_path, model=smallest, train={"steps": 2000}, save={"save_every": 0})
    output = tmp_path / "output" / "job"
    job = submit(ROOT, machines, str(job_file))
    while not (output / "events.jsonl").exists() or 2 not in losses(output):
        assert job.poll() is None
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) != 0
    assert (tmp_path / "requeued").read_text() == "7\n"
    (run,) = read_runs(output)
    assert run.status == "interrupted"
    bundle, _ = newest_bundle(output)
    assert bundle is not None
    assert bundle.step == run.end["step"] >= 2
    assert bundle.manifest["world"] == 2
    if goes_on:  # the same line as before, on the machines that Slurm gives next
        again = submit(
            ROOT, {**machines, "SLURM_RESTART_COUNT": "1"}, str(job_file), "--set", f"train.steps={bundle.step + 2}"
        )
        assert again.wait(timeout=300) == 0
        assert list(losses(output)) == list(range(1, bundle.step + 3))
        assert [run.status for run in read_runs(output)] == ["interrupted", "done"]
