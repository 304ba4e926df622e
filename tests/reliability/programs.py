"""run.py as a process of its own, as users start it: plain, or armed to die at one of its file operations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.reliability.faults import Aim

ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
}


def start(
    job: Path, log: Path, *, aim: Aim | None = None, seed: int = 0, counts: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start run.py on a job.

    Args:
        job: the job file.
        log: gets everything that is printed.
        aim: where it dies, or gets signals.
        seed: for how much of a torn file is left.
        counts: gets the number of operations by place when it ends.
    """
    command = [sys.executable, "run.py", str(job)]
    if aim or counts:
        orders = {"aim": aim and aim.to_json(), "seed": seed, "counts": counts and str(counts)}
        command = [sys.executable, "-m", "tests.reliability.armed", json.dumps(orders), str(job)]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=_ENVIRONMENT)
