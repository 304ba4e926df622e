"""The files of an event log: how their lines are read, which are the older ones, and how these are thinned out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.files import write_bytes

_COARSEST = 1024
_MEMORY_EVERY_S = 10


def parse_events(content: bytes) -> Iterator[dict[str, Any]]:
    """The events in a part of a log; lines that are none are skipped."""
    for line in content.split(b"\n"):
        try:
            event = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):  # zeros after a power failure, or a number with thousands of digits
            continue
        if isinstance(event, dict):
            yield event


def thin_out(files: list[Path], limit_bytes: int) -> None:
    """Drop steps, and if need be whole files, until `files` (oldest first) fit within the limit."""
    stride = 2
    while sum(path.stat().st_size for path in files) > limit_bytes:
        if stride > _COARSEST:
            files.pop(0).unlink()
            continue
        for path in files[:-1]:  # a reader that follows the log may not have finished the last one
            _keep_every(path, stride)
        stride *= 2


def _keep_every(path: Path, stride: int) -> None:
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    kept = b"".join(line for line in lines if _stays(line, stride))
    if len(kept) < len(content):
        write_bytes(path, kept)


def _stays(line: bytes, stride: int) -> bool:
    event = next(parse_events(line), {})
    moment = event.get("time")
    if event.get("kind") == "memory" and isinstance(moment, int | float):
        return moment // _MEMORY_EVERY_S % stride == 0
    return event.get("kind") != "step" or event.get("step", 0) % stride == 0


def older_files(path: Path) -> list[Path]:
    """`events.1.jsonl`, `events.2.jsonl`, ... next to `events.jsonl`, oldest first."""
    name = re.compile(rf"{re.escape(path.stem)}\.\d+{re.escape(path.suffix)}")
    return sorted((other for other in path.parent.iterdir() if name.fullmatch(other.name)), key=number_of)


def number_of(path: Path) -> int:
    """The number of an older file."""
    return int(path.stem.rpartition(".")[2])
