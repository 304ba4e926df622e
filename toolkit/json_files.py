"""Reads JSON files that come with a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolkit.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file that holds one JSON object, such as `config.json`.

    Raises:
        UserError: the file cannot be read, is not JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: the file is damaged: it is not a JSON object. Download it again.")
    return content
