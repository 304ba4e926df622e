"""What launchers say, and what happens if they say too little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.parallel.launcher import Launch, find_launch

ROOT = Path(__file__).resolve().parents[3]
TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "gpu1",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[03-05,9],big1",
}


def test_torchrun_and_accelerate_say_all() -> None:
    assert find_launch(TORCHRUN) == Launch(5, 8, 1, 4, "gpu1", 29500)


def test_srun_names_the_machines_and_the_port_follows_from_the_job() -> None:
    launch = find_launch(SRUN)
    assert launch is not None
    assert (launch.rank, launch.world, launch.local_rank, launch.local_world, launch.address) == (3, 4, 1, 2, "gpu03")
    assert 20_000 <= launch.port < 30_000
    other = find_launch(SRUN | {"SLURM_JOB_ID": "1235"})
    assert other is not None and other.port != launch.port
    uneven = {key: value for key, value in SRUN.items() if key != "SLURM_NTASKS_PER_NODE"}
    launch = find_launch(uneven | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)"})
    assert launch is not None and launch.local_world == 2


@pytest.mark.parametrize(("machines", "first"), [("a7", "a7"), ("a7,b", "a7"), ("rack1-[8,9]-x", "rack1-8-x")])
def test_the_first_of_a_list_of_machines(machines: str, first: str) -> None:
    launch = find_launch(SRUN | {"SLURM_STEP_NODELIST": machines})
    assert launch is not None and launch.address == first


@pytest.mark.parametrize(
    "environment",
    [
        {},
        TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"},
        SRUN | {"SLURM_NTASKS": "1"},
        {key: value for key, value in SRUN.items() if key != "SLURM_STEP_ID"},  # the batch script, outside of srun
    ],
)
def test_one_process_is_no_launch(environment: dict[str, str]) -> None:
    assert find_launch(environment) is None


def test_what_is_missing_or_garbled_is_named() -> None:
    with pytest.raises(UserError, match="LOCAL_RANK is 'x' in the environment"):
        find_launch(TORCHRUN | {"LOCAL_RANK": "x"})
    with pytest.raises(UserError, match="MASTER_ADDR and MASTER_PORT"):
        find_launch({key: value for key, value in TORCHRUN.items() if key != "MASTER_PORT"})


def test_a_single_process_and_a_check_of_several_load_no_torch() -> None:
    code = (
        "import os, sys; os.environ.update(RANK='1', WORLD_SIZE='2', LOCAL_RANK='1', LOCAL_WORLD_SIZE='2', "
        "MASTER_ADDR='localhost', MASTER_PORT='1'); from toolkit.parallel.ranks import find_ranks; "
        "ranks = find_ranks(); assert (ranks.rank, ranks.world) == (1, 2); ranks.close(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
