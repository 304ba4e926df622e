"""`run.py --tell FOLDER COMMAND`: sends a command to the run that is using an output folder."""

from __future__ import annotations

from pathlib import Path

from jobs.folder_state import require_folder
from toolkit.config.reading.suggest import did_you_mean
from toolkit.errors import UserError
from toolkit.output.lock import holder
from toolkit.runtime.control import COMMANDS, Command, send

_ANSWERS: dict[Command, str] = {
    "stop": "it finishes its step, saves and ends",
    "save": "it writes a checkpoint after its step",
    "sample": "it draws samples after its step",
}


def tell(folder: Path, command: str) -> str:
    """Send a command. Returns a line for the user; the event log shows when the run has carried it out.

    Raises:
        UserError: there is no such command, no such folder, or no run that would read it.
    """
    known = next((known for known in COMMANDS if known == command), None)
    if known is None:
        near = did_you_mean(command, COMMANDS)
        raise UserError(f'--tell: no command "{command}".{near} Known: {", ".join(COMMANDS)}')
    require_folder(folder, "--tell")
    owner = holder(folder)
    if owner is None:
        raise UserError(f"--tell {folder}: no run is using this folder, so the command was not sent.")
    try:
        send(folder, known)
    except OSError as error:
        raise UserError(f"--tell {folder}: cannot be written ({error.strerror or error}).") from error
    return f"sent `{known}` to {owner}: {_ANSWERS[known]}"
