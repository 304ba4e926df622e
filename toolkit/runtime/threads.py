"""How the threads that torch computes with on a CPU wait for each other."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

SPINS = "1000"
"""Rounds of waiting before a thread sleeps: GOMP_SPINCOUNT."""
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""There where a driver is: NVIDIA's on Linux, a GPU in Windows' Linux, AMD's."""


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep soon, where the model runs on the CPU and the user has not said otherwise.

    To be called before torch is imported: its OpenMP library (libgomp) reads the environment when it is loaded, and
    never again. Left to itself, a thread that has done its part of an operator spins for milliseconds until the others
    have done theirs, and keeps from the core the very thread it waits for, where another program wants a core too.
    Seconds per step of the demo on two cores, alone and beside one busy process:

        GOMP_SPINCOUNT   unset       100000      10000       3000        1000        300         OMP_WAIT_POLICY=PASSIVE
                         0.27 0.81   0.25 3.19   0.25 0.99   0.23 0.70   0.26 0.45   0.36 0.47   0.34 0.39

    Whether a job will run on the CPU is not known before torch is imported, only whether the machine shows a GPU. Where
    it does, nothing is set, also for a job with `device: cpu`: a job on the GPU must not be slowed.
    """
    if _shows_gpu(environment) or "GOMP_SPINCOUNT" in environment or "OMP_WAIT_POLICY" in environment:
        return
    environment["GOMP_SPINCOUNT"] = SPINS


def _shows_gpu(environment: MutableMapping[str, str]) -> bool:
    is_hidden = environment.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return not is_hidden and any(Path(device).exists() for device in GPU_DEVICES)
