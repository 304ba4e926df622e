"""LoRA files under the roots, found by the names in their headers."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.files import read_safetensors_header
from toolkit.output.figures import whole
from ui.server.jobs.folders import is_walked, stamp
from ui.server.jobs.job import Job
from ui.server.refusal import Refusal
from ui.server.roots import Roots
from ui.server.schemas import LoraInfo, LoraList
from ui.server.words import clean

SUFFIX = ".safetensors"
_DEEPEST = 5
_MOST_FOLDERS = 20_000
_MOST_FILES = 2_000
_LORA_KEY = re.compile(r"lora[_.]|lokr_|hada_|oft_|dora_scale|\.diff(_b)?$|\.alpha$", re.IGNORECASE)


@dataclass(frozen=True)
class Facts:
    """What the header of a LoRA file says: the step it is of, and its model; None where it does not."""

    step: int | None
    arch: str | None


def list_loras(roots: Roots, jobs: Iterable[Job]) -> LoraList:
    """Every LoRA file, the newest first. Hidden folders and the states of runs are passed over."""
    by_folder = {str(job.folder): job.id for job in jobs}
    walk = _Walk()
    found = []
    for path in (path for root in roots.folders for path in walk.files(str(root), 0)):
        state = stamp(path)
        facts = None if state is None else _facts(path, state)
        if facts is not None and state is not None:
            found.append(
                LoraInfo(
                    path=clean(str(path)),
                    name=clean(path.stem),
                    job_id=by_folder.get(str(path.parent)),
                    step=facts.step,
                    arch=None if facts.arch is None else clean(facts.arch),
                    num_bytes=state[1],
                    time=state[2] / 1e9,
                )
            )
    return LoraList(loras=sorted(found, key=lambda it: (-it.time, it.path)), is_cut=walk.is_cut)


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
    """What a file says of itself; None if it is gone or not a LoRA."""
    state = stamp(path)
    return None if state is None else _facts(path, state)


class _Walk:
    """Through folders, no further than a page can wait."""

    def __init__(self) -> None:
        self.is_cut = False
        self._num_folders = self._num_files = 0

    def files(self, folder: str, depth: int) -> Iterator[Path]:
        self._num_folders += 1
        if self._num_folders > _MOST_FOLDERS:
            self.is_cut = True
            return
        inner: list[str] = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if is_walked(entry):
                    inner.append(entry.path)
                elif entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    self._num_files += 1
                    if self._num_files > _MOST_FILES:
                        self.is_cut = True
                        return
                    yield Path(entry.path)
        if depth < _DEEPEST:
            for path in inner:
                yield from self.files(path, depth + 1)


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
