"""Files that a run would overwrite but no checkpoint of it owns: from another program, or left without `state/`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.files import read_safetensors_header
from toolkit.output.bundles import bundle_folder, is_begun, step_folders

_STEP = re.compile(r"(?:_raw)?_(\d{1,18})")
# Files that every start of our own runs rewrites.
_OTHERS = ("config.yaml", "samples/grid.jpg")
_OPTIMIZER = "optimizer.pt"  # ai-toolkit's optimizer state, next to its weights


def unowned_files(
    folder: Path, job: str, *, after: int, takes_final: bool, writes_folders: bool = False
) -> tuple[Path, ...]:
    """The files that must be moved aside before a run writes.

    Args:
        folder: the job's output folder.
        job: the job's name.
        after: the step that the run resumes from; weights of this step and earlier ones are not written again.
        takes_final: whether to include all final weights. If not, as where the run resumes from its own checkpoint,
            only those of a later step whose checkpoint is gone, and those of unknown origin, are included.
        writes_folders: whether the run writes weights as folders, which would replace any folder of that name.
    """
    if not folder.is_dir():
        return ()
    found = [path for path in sorted(folder.iterdir()) if _is_weights(path, job, writes_folders=writes_folders)]
    steps = {path: _step(path, job) for path in found}
    weights = [
        path
        for path, step in steps.items()
        if (takes_final and step is None) or _is_lost(folder, step_inside(path) if step is None else step, after)
    ]
    others = [folder / _OPTIMIZER] if weights else []
    if weights or not (folder / "events.jsonl").exists():
        others += [folder / name for name in _OTHERS]
    return (*weights, *(path for path in others if path.exists()))


def has_begun(folder: Path) -> bool:
    """Whether one of our runs has at least started to write a checkpoint."""
    return any(map(is_begun, step_folders(folder)))


def must_not_be_read(config: Mapping[str, Any], unowned: Sequence[Path]) -> None:
    """Raises UserError if a setting refers to one of the files that will be moved aside."""
    moved = {path.resolve() for path in unowned}
    for key, text in _texts(config) if moved else ():
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # not a valid path
            path = Path(text).expanduser().resolve()
            if moved.intersection((path, *path.parents)):
                raise UserError(
                    f"{key}: {text} is where this job writes its own weights. Move or rename that file, or give the "
                    "job another `name`."
                )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in the settings, with its key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{number}]")


def _is_weights(path: Path, job: str, *, writes_folders: bool) -> bool:
    name = path.name if path.is_dir() else path.name.removesuffix(".safetensors")
    if not path.is_dir() and path.suffix != ".safetensors":
        return False
    if not name.startswith(job) or (
        name not in (job, f"{job}_raw", f"{job}_best") and not _STEP.fullmatch(name.removeprefix(job))
    ):
        return False
    return not path.is_dir() or writes_folders or next(path.rglob("*.safetensors"), None) is not None


def _is_lost(folder: Path, step: int | None, after: int) -> bool:
    """Whether nothing is left of the run that wrote the weights of a step; None: the weights do not say of which."""
    return step is None or (step > after and not is_begun(bundle_folder(folder, step)))


def step_inside(weights: Path) -> int | None:
    """The step that the header of weights names whose file name has none; None if it does not."""
    path = next(iter(sorted(weights.rglob("*.safetensors"))), weights) if weights.is_dir() else weights
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        step = json.loads(read_safetensors_header(path)["__metadata__"]["training_info"])["step"]
        return step if isinstance(step, int) else None
    return None


def _step(path: Path, job: str) -> int | None:
    """The step in a file name; None for final weights."""
    match = _STEP.fullmatch(path.name.removesuffix(".safetensors").removeprefix(job))
    return int(match[1]) if match else None
