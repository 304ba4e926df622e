"""What the server is started with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.extension import REPOSITORY

PORT = 8675


def store_folder(given: Path | str | None, environment: Mapping[str, str]) -> Path:
    """The folder of the index, the token and the settings.

    Args:
        given: by the user, relative to the current folder; None where nothing was.
        environment: may name another default in `FLUX2_TRAINER_HOME`.
    """
    return Path(given or environment.get("FLUX2_TRAINER_HOME") or REPOSITORY / ".ui").expanduser().absolute()


def has_display(environment: Mapping[str, str]) -> bool:
    """Whether a browser can be opened here."""
    return sys.platform in ("darwin", "win32") or any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@dataclass(frozen=True)
class Options:
    """What the server is started with.

    Attributes:
        store: folder of the index, the token, settings and thumbnails.
        roots: folders that job texts may name paths in.
        token: opens the API; None: the one of the store, made where there is none.
        hosts: names, with or without port, that requests may ask for.
        dist: the built front end.
        program: what runs a job file, which is appended to it.
        is_reindexed: forget the index first.
        poll_s: how often folders of live runs are read.
        has_scheduler: start what waits in the queue.
        may_run_elsewhere: sockets other than of this machine can reach the server.
    """

    store: Path
    roots: tuple[Path, ...]
    token: str | None = None
    hosts: tuple[str, ...] = (f"127.0.0.1:{PORT}", f"localhost:{PORT}")
    dist: Path = REPOSITORY / "ui" / "dist"
    program: tuple[str, ...] = (sys.executable, str(REPOSITORY / "run.py"))
    is_reindexed: bool = False
    poll_s: float = 0.25
    has_scheduler: bool = True
    may_run_elsewhere: bool = False
