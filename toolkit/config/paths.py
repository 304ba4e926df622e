"""Paths in a job file that must exist before anything is loaded."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from toolkit.config.reading.parse import BACKSLASHES, shortened

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(/[\w./-]+\.safetensors)?")  # a file of a repository, too


def _not_empty(value: Any) -> Any:
    if value == "":  # pathlib would take it for the working folder
        raise ValueError("is empty: write a path, or leave the key out")
    return value


def usable(path: Path) -> Path:
    """The path with `~` replaced; whether anything is there is another question.

    Raises:
        ValueError: no path can be so, or a folder on the way may not be looked into.
    """
    try:
        path = path.expanduser()
        path.exists()
    except RuntimeError as error:
        raise ValueError(f'"{path}": there is no user {path.parts[0]} here. Write the whole path') from error
    except OSError as error:
        raise ValueError(f'"{shortened(str(path))}" cannot be a path: {error.strerror}') from error
    if "\0" in str(path):
        raise ValueError("a path holds no zero byte (\\0)")
    if any(ord(sign) < 32 for sign in str(path)) and not path.exists():
        raise ValueError(f"{json.dumps(shortened(str(path)))} holds a special character. {BACKSLASHES}")
    return path


def must_be_dataset(path: Path, info: ValidationInfo) -> Path:
    """A folder, or a JSON file that lists images.

    Raises:
        ValueError: it is not.
    """
    return path if path.suffix == ".json" and path.is_file() else must_be_folder(path, info)


def must_be_folder(path: Path, info: ValidationInfo) -> Path:
    """A folder that is there and can be read; a section made in Python is not looked at.

    Raises:
        ValueError: it is not.
    """
    if info.context is not None:  # a section made in Python is only checked when it is used
        if not path.exists():
            raise ValueError(f'no folder "{path}" in {Path.cwd()}' if not path.is_absolute() else f'no folder "{path}"')
        if not path.is_dir():
            raise ValueError(f'"{path}" is not a folder')
        if not os.access(path, os.R_OK | os.X_OK):
            raise ValueError(f'no permission to read the folder "{path}"')
    return path


def must_be_file(path: Path, info: ValidationInfo) -> Path:
    """A file that is there.

    Raises:
        ValueError: it is not.
    """
    if info.context is not None and not path.is_file():
        raise ValueError(f'no file "{path}"')
    return path


def must_be_hub_id_or_path(name: str, info: ValidationInfo) -> str:
    """A hub id, or a path of something that is there.

    Raises:
        ValueError: it is not.
    """
    here = usable(Path(name))
    if info.context is not None and not HUB_ID.fullmatch(name) and not here.exists():
        raise ValueError(f'"{name}" is neither here nor a hub id such as owner/name')
    return str(here) if name.startswith("~") else name


UserPath = Annotated[Path, BeforeValidator(_not_empty, json_schema_input_type=Path), AfterValidator(usable)]
ExistingFolder = Annotated[UserPath, AfterValidator(must_be_folder)]
ExistingDataset = Annotated[UserPath, AfterValidator(must_be_dataset)]
ExistingFile = Annotated[UserPath, AfterValidator(must_be_file)]
HubIdOrPath = Annotated[str, AfterValidator(must_be_hub_id_or_path)]
