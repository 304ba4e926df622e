"""LoRA files under the roots, found by the names in their headers."""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.files import read_safetensors_header
from toolkit.output.figures import whole
from ui.server.jobs.folders import FolderFinder, is_walked, stamp
from ui.server.jobs.registry import Registry
from ui.server.refusal import Refusal
from ui.server.roots import Roots
from ui.server.schemas import LoraInfo, LoraList
from ui.server.words import clean

SUFFIX = ".safetensors"
_DEEPEST = 5
_MOST_FILES = 2_000
_LORA_KEY = re.compile(r"lora[_.]|lokr_|hada_|oft_|dora_scale|\.diff(_b)?$|\.alpha$", re.IGNORECASE)


@dataclass(frozen=True)
class Facts:
    """What the header of a LoRA file says: the step it is of, and its model; None where it does not."""

    step: int | None
    arch: str | None


class Loras:
    """The LoRA files under the roots. Only folders that have changed are read again."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._finder = FolderFinder(registry.roots, look_for_weights, has_roots=True, depth=_DEEPEST)
        self._lock = threading.Lock()

    def all(self) -> LoraList:
        """Every LoRA file, the newest first. Hidden folders and the states of runs are skipped."""
        with self._lock:
            folders, is_cut = self._finder.find(), self._finder.is_cut
        paths = [folder / name for folder, names in folders.items() for name in names]
        by_folder = {job.folder: job.id for job in self.registry.all()}
        found = [lora for path in paths[:_MOST_FILES] if (lora := _info(path, by_folder.get(path.parent))) is not None]
        is_cut |= len(paths) > _MOST_FILES
        return LoraList(loras=sorted(found, key=lambda it: (-it.time, it.path)), is_cut=is_cut)


def look_for_weights(folder: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The folders in a folder, and the names of the weights in it; None without any."""
    inner, files = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_walked(entry):
                inner.append(entry.name)
            elif entry.name[0] != "." and entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                files.append(entry.name)
    return tuple(sorted(inner)), tuple(sorted(files)) or None


def _info(path: Path, job_id: str | None) -> LoraInfo | None:
    """What the list says about a file; None if it is gone or not a LoRA."""
    state = stamp(path)
    facts = None if state is None else _facts(path, state)
    if facts is None or state is None:
        return None
    return LoraInfo(
        path=clean(str(path)),
        name=clean(path.stem),
        job_id=job_id,
        step=facts.step,
        arch=None if facts.arch is None else clean(facts.arch),
        num_bytes=state[1],
        time=state[2] / 1e9,
    )


def require_lora(path: str, roots: Roots, where: str) -> Path:
    """The real path of a LoRA file.

    Raises:
        Refusal: it is outside the roots, is gone, or is another kind of file.
    """
    real = roots.require(Path(path), where)
    state = stamp(real) if real.is_file() else None
    if state is None:
        raise Refusal(422, f"{path} no longer exists. It may have been moved or deleted.", where)
    if real.suffix != SUFFIX or _facts(real, state) is None:
        raise Refusal(422, f"{path} is not a LoRA file.", where)
    return real


def facts_of(path: Path) -> Facts | None:
    """What a file says about itself; None if it is gone or not a LoRA."""
    state = stamp(path)
    return None if state is None else _facts(path, state)


@functools.lru_cache(maxsize=4 * _MOST_FILES)
def _facts(path: Path, state: Any) -> Facts | None:
    try:
        header = read_safetensors_header(path)
    except (OSError, ValueError, RecursionError):
        return None
    if not any(_LORA_KEY.search(key) for key in header if key != "__metadata__"):
        return None
    said = header.get("__metadata__")
    metadata: Mapping[str, Any] = said if isinstance(said, dict) else {}
    arch = metadata.get("ss_base_model_version")
    return Facts(_step(metadata), arch if isinstance(arch, str) and arch else None)


def _step(metadata: Mapping[str, Any]) -> int | None:
    try:
        found = json.loads(str(metadata.get("training_info", "")))
    except (ValueError, RecursionError):
        return None
    return whole(found.get("step")) if isinstance(found, dict) else None
