"""Field types for paths in a job file; those that must exist are checked before anything is loaded."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from toolkit.config.compat.released import DISTILLED
from toolkit.config.reading.parse import BACKSLASHES, shortened

IMAGE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff"})
DATASET_FILES = (".json", ".jsonl", ".tar", ".parquet", ".arrow")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(/[\w./-]+\.safetensors)?")  # a repository, or a file in one


def _not_empty(value: Any) -> Any:
    if value == "":  # pathlib would read it as the working directory
        raise ValueError("is empty: write a path, or remove the key")
    return value


def checked_path(path: Path) -> Path:
    """The path with `~` expanded. It need not exist.

    Raises:
        ValueError: it cannot be a path, or a parent folder may not be accessed.
    """
    try:
        path = path.expanduser()
        path.exists()
    except RuntimeError as error:
        raise ValueError(f'"{path}": there is no user {path.parts[0]} here. Write the full path') from error
    except OSError as error:
        raise ValueError(f'"{shortened(str(path))}" cannot be a path: {error.strerror}') from error
    if "\0" in str(path):
        raise ValueError("a path cannot contain a zero byte (\\0)")
    if any(ord(sign) < 32 for sign in str(path)) and not path.exists():
        raise ValueError(f"{json.dumps(shortened(str(path)))} contains a special character. {BACKSLASHES}")
    return path


def must_be_dataset(path: Path, info: ValidationInfo) -> Path:
    """A folder, or a file that lists or holds images.

    Raises:
        ValueError: it is not.
    """
    if path.is_file() and info.context is not None:
        if path.suffix.lower() not in DATASET_FILES:
            raise ValueError(f'"{path}" is neither a folder nor one of {", ".join(DATASET_FILES)}')
        return path
    return must_be_folder(path, info)


def must_be_folder(path: Path, info: ValidationInfo) -> Path:
    """A folder that is there and can be read; a section made in Python is not checked.

    Raises:
        ValueError: it is not.
    """
    if info.context is not None:  # a section made in Python is checked only when it is used
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


def must_exist(path: Path, info: ValidationInfo) -> Path:
    """A file or folder that is there.

    Raises:
        ValueError: it is not.
    """
    if info.context is not None and not path.exists():
        raise ValueError(f'no file or folder "{path}"')
    return path


def must_be_hub_id_or_path(name: str, info: ValidationInfo) -> str:
    """A hub id, or a path of something that is there.

    Raises:
        ValueError: it is not.
    """
    here = checked_path(Path(name))
    if info.context is not None and not HUB_ID.fullmatch(name) and not here.exists():
        raise ValueError(f'"{name}" is neither an existing path nor a hub id such as owner/name')
    return str(here) if name.startswith("~") else name


def must_be_twin(name: str, info: ValidationInfo) -> str:
    """`distilled`, or see `must_be_hub_id_or_path`.

    Raises:
        ValueError: it is not.
    """
    if name.strip().lower() == DISTILLED:
        return DISTILLED
    try:
        return must_be_hub_id_or_path(name, info)
    except ValueError as error:
        raise ValueError(f"{error}, nor `{DISTILLED}`") from error


UserPath = Annotated[Path, BeforeValidator(_not_empty, json_schema_input_type=Path), AfterValidator(checked_path)]
ExistingFolder = Annotated[UserPath, AfterValidator(must_be_folder)]
ExistingDataset = Annotated[UserPath, AfterValidator(must_be_dataset)]
ExistingPath = Annotated[UserPath, AfterValidator(must_exist)]
ExistingFile = Annotated[UserPath, AfterValidator(must_be_file)]
HubIdOrPath = Annotated[str, AfterValidator(must_be_hub_id_or_path)]
TwinWeights = Annotated[str, AfterValidator(must_be_twin)]
