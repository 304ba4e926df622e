"""Whether the experiment trackers that a job asks for can be used, as far as this machine can tell."""

from __future__ import annotations

import contextlib
import importlib.util
import netrc
import os
from pathlib import Path

from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import Problem

_OFFLINE = ("offline", "dryrun", "disabled")


def tracker_problems(config: TrainingProcessConfig) -> list[Problem]:
    """Why a tracker could not be used: its package is missing, or there is nobody to log in as."""
    found = []
    for name in config.logging.trackers:
        key = f"logging.use_{name}"
        if importlib.util.find_spec(name) is None:
            what = f"the package {name} is not installed. Run `pip install -r requirements-trackers.txt`"
            found.append(Problem(key, what))
        elif name == "wandb" and not _can_log_in():
            what = (
                "there is no account to log in to. Put `WANDB_API_KEY=...` into .env, run `wandb login`, or set "
                "`WANDB_MODE=offline` to keep the run on this machine"
            )
            found.append(Problem(key, what))
    return found


def _can_log_in() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in _OFFLINE:
        return True
    for name in (os.environ.get("NETRC") or "~/.netrc", "~/_netrc"):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if any("wandb" in host for host in netrc.netrc(Path(name).expanduser()).hosts):
                return True
    return False
