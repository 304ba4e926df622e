"""Files of prompts: text with one prompt a line, or a list as YAML or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toolkit.config.reading.parse import parse_list
from toolkit.config.sample_prompt import SamplePrompt

LISTS = (".json", ".jsonc", ".yaml", ".yml")


def read_prompts(path: Path) -> list[Any]:
    """The entries of a file, each as it may be in a list of prompts. Empty lines, and lines that begin with #, are
    left out of text.

    Raises:
        ValueError: there is no such file, it has no prompts, or an entry has a mistake; names file and line.
    """
    path = path.expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f'no file "{path}". Write its path, or the prompts as a list') from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'"{path}" cannot be read: {error}') from error
    if path.suffix.lower() in LISTS:
        entries = parse_list(path, text)
        places = [f"{path}, entry {number}" for number in range(1, len(entries) + 1)]
    else:
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
        kept = [(number, line) for number, line in lines if line and not line.startswith("#")]
        entries, places = [line for _, line in kept], [f"{path}, line {number}" for number, _ in kept]
    if not entries:
        raise ValueError(f'"{path}" has no prompts')
    for entry, place in zip(entries, places, strict=True):
        _check(entry, place)
    return entries


def _check(entry: Any, place: str) -> None:
    if not isinstance(entry, str | dict):
        raise ValueError(f"{place}: needs a prompt, or a mapping with the key `prompt`")
    try:
        SamplePrompt.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise ValueError(f"{place}: {key}{first['msg'].removeprefix('Value error, ')}") from None
