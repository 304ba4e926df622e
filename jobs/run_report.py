"""`report.html` at the end of a run, and of any output folder by `run.py --report FOLDER`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from jobs.folder_state import require_folder
from toolkit.config import ProcessConfig, TrainingProcessConfig
from toolkit.errors import UserError
from toolkit.output.lock import FolderLost


def report(folder: Path) -> str:
    """Write the report of an output folder, also while a run is using it. Returns a line for the user.

    Raises:
        UserError: there is no such folder, no log in it, or no room.
    """
    from toolkit.report import write_report  # what reads pictures is not needed to start

    require_folder(folder, "--report")
    try:
        return f"report written to {write_report(folder)}"
    except OSError as error:
        raise UserError(f"--report {folder}: cannot be written ({error.strerror or error}).") from error


@contextlib.contextmanager
def report_at_end(folder: Path, config: ProcessConfig) -> Iterator[None]:
    """Write the report of a training when the `with` block is left, however it ends, unless it is stopped at once.

    A report that cannot be written is reported and does not change how the run ends.
    """
    try:
        yield
    except (FolderLost, KeyboardInterrupt):
        raise
    except BaseException:
        _try_report(folder, config)
        raise
    else:
        _try_report(folder, config)


def _try_report(folder: Path, config: ProcessConfig) -> None:
    if not isinstance(config, TrainingProcessConfig):
        return
    try:
        report(folder)
    except Exception as error:  # whatever it is: the run has ended well, or badly, before
        print(f"The report could not be written: {type(error).__name__}: {error}")
