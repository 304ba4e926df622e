"""How long torch's CPU threads spin while they wait for each other."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

SPINS = "1000"
"""Value of GOMP_SPINCOUNT: how often a waiting thread spins before it sleeps."""
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Device files of GPU drivers: NVIDIA's on Linux, any GPU in WSL, AMD's."""


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep soon if the model may run on the CPU and the user has not set this otherwise.

    Call this before torch is imported: its OpenMP library (libgomp) reads the environment only when it is loaded. By
    default, a thread that has done its part of an operator spins for milliseconds until the others have done theirs. If
    another program wants a core too, the spinning thread takes the core from exactly the thread that it waits for.
    Seconds per step of the demo on two cores, first alone, then next to one busy process:

        GOMP_SPINCOUNT   unset       100000      10000       3000        1000        300         OMP_WAIT_POLICY=PASSIVE
                         0.27 0.81   0.25 3.19   0.25 0.99   0.23 0.70   0.26 0.45   0.36 0.47   0.34 0.39

    Before torch is imported it is not known whether a job will run on the CPU, only whether the machine shows a GPU. If
    it does, nothing is set, even for a job with `device: cpu`: a job on the GPU must not be slowed down.
    """
    if _shows_gpu(environment) or "GOMP_SPINCOUNT" in environment or "OMP_WAIT_POLICY" in environment:
        return
    environment["GOMP_SPINCOUNT"] = SPINS


def _shows_gpu(environment: MutableMapping[str, str]) -> bool:
    is_hidden = environment.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return not is_hidden and any(Path(device).exists() for device in GPU_DEVICES)
