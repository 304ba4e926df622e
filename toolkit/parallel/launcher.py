"""What a launcher (torchrun, accelerate, srun) tells each process that it starts, through the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.errors import UserError

_NUMBERS = {  # name -> of torchrun, which accelerate uses too; of Slurm's srun
    "rank": ("RANK", "SLURM_PROCID"),
    "world": ("WORLD_SIZE", "SLURM_NTASKS"),
    "local_rank": ("LOCAL_RANK", "SLURM_LOCALID"),
    "local_world": ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"),
}
_FIRST_PORT, _NUM_PORTS = 20_000, 10_000


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that were started together.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        local_rank: number of this process among those of its machine.
        local_world: number of processes on this machine.
        address: name of the machine of rank 0.
        port: port there, where the processes find each other.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    address: str
    port: int


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What a launcher has said; None if there is none, or if it has started a single process.

    Raises:
        UserError: the launcher has left out, or garbled, what the processes need to find each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _launch(environment, 0)
    if "SLURM_PROCID" in environment and "SLURM_STEP_ID" in environment:  # of srun, not of the batch script
        return _launch(environment, 1)
    return None


def _launch(environment: Mapping[str, str], column: int) -> Launch | None:
    texts = {name: environment.get(names[column]) for name, names in _NUMBERS.items()}
    if texts["world"] in (None, "1"):
        return None
    if column == 1 and texts["local_world"] is None:
        texts["local_world"] = environment.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0] or None
    if texts["local_rank"] is None and texts["local_world"] is None:  # one process on each machine
        texts |= {"local_rank": "0", "local_world": "1"}
    if texts["local_world"] is None:
        texts["local_world"] = texts["world"]
    numbers: dict[str, int] = {}
    for name, text in texts.items():
        if text is None or not text.isdecimal():
            raise UserError(
                f"{_NUMBERS[name][column]} is {text!r} in the environment, but a number is needed: the launcher that "
                "started this process must set it. To train in a single process, unset RANK and WORLD_SIZE."
            )
        numbers[name] = int(text)
    address, port = _meeting_place(environment)
    return Launch(**numbers, address=address, port=port)


def _meeting_place(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where the processes find each other. srun sets none: the first machine, at a port made of the job's number."""
    address, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    if address is None and (machines := environment.get("SLURM_STEP_NODELIST")):
        address = _first_machine(machines)
    if port is None and (job := environment.get("SLURM_JOB_ID", "")).isdecimal():
        step = environment.get("SLURM_STEP_ID", "0")
        port = str(_FIRST_PORT + (int(job) * 31 + int(step if step.isdecimal() else 0)) % _NUM_PORTS)
    if address is None or port is None or not port.isdecimal():
        raise UserError(
            "MASTER_ADDR and MASTER_PORT say where the processes of a run find each other; the launcher that started "
            "this one has not set them. Start the run with torchrun, accelerate or srun, or set both."
        )
    return address, int(port)


def _first_machine(machines: str) -> str:
    """The first name in a list of Slurm's, such as `gpu[03-05,9],big1`."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", machines)
    assert found is not None, machines
    name, number, rest = found.groups(default="")
    return name + number + rest
