"""Step bundles: everything a run needs to go on, valid only once its manifest is written."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.files import sha256_file, write_json
from toolkit.version import VERSION
from toolkit.weights.tensor_files import read_tensors, write_tensors

STATE_FOLDER = "state"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """A valid bundle on disk."""

    step: int
    folder: Path
    output_files: tuple[Path, ...]

    def tensors(self, part: str) -> dict[str, Tensor]:
        """One part of the state, such as `weights` or `optimizer`; empty if the bundle has none."""
        path = self.folder / f"{part}.safetensors"
        return read_tensors(path) if path.exists() else {}

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the run."""
        return json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))


def write_bundle(
    output_folder: Path,
    *,
    step: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    output_files: tuple[Path, ...],
    facts: Mapping[str, Any],
) -> Bundle:
    """Write the state of a step; the manifest, with the size and hash of every file, comes last.

    Args:
        output_folder: the job's folder.
        step: updates done.
        parts: name -> tensors; each becomes one safetensors file. Empty parts are left out.
        output_files: weights for the user that belong to this step, already written.
        facts: more that a later start should know; plain JSON.
    """
    folder = output_folder / STATE_FOLDER / f"{step:09d}"
    # A bundle of this step from a run that was rolled back stops being valid before its files change.
    (folder / MANIFEST).unlink(missing_ok=True)
    files = list(output_files)
    for name, tensors in parts.items():
        if tensors:
            write_tensors(folder / f"{name}.safetensors", tensors)
            files.append(folder / f"{name}.safetensors")
    described = {
        path.relative_to(output_folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    }
    versions = {"trainer": VERSION, "torch": torch.__version__, "python": platform.python_version()}
    write_json(folder / MANIFEST, {**facts, "step": step, "files": described, "versions": versions})
    return Bundle(step, folder, output_files)


def find_bundles(output_folder: Path) -> tuple[list[Bundle], list[str]]:
    """Valid bundles by step, oldest first, and one line for each that was passed over and why."""
    bundles, passed_over = [], []
    for folder in sorted((output_folder / STATE_FOLDER).glob("[0-9]*")):
        reason = _fault(output_folder, folder)
        if reason:
            passed_over.append(f"{folder}: passed over, {reason}")
        else:
            bundles.append(_read(output_folder, folder))
    return bundles, passed_over


def prune(output_folder: Path, keep: int) -> list[Path]:
    """Delete all but the newest `keep` bundles with the files their manifests list; 0 keeps everything.

    Returns:
        The files that the user sees disappear.
    """
    bundles, _ = find_bundles(output_folder)
    deleted: list[Path] = []
    for bundle in bundles[:-keep] if keep else []:
        (bundle.folder / MANIFEST).unlink()  # first: a kill in between leaves no bundle that looks valid
        shutil.rmtree(bundle.folder)
        for path in bundle.output_files:
            path.unlink(missing_ok=True)
            deleted.append(path)
            for folder in path.parents[: len(path.relative_to(output_folder).parents) - 1]:
                with contextlib.suppress(OSError):  # something of the user's is in there
                    folder.rmdir()
    return deleted


def _fault(output_folder: Path, folder: Path) -> str | None:
    """Why a folder is no valid bundle, or None if it is one."""
    try:
        return _fault_of_content(output_folder, folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "its manifest is damaged"


def _fault_of_content(output_folder: Path, folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, step = dict(manifest["files"]), int(manifest["step"])
    except FileNotFoundError:
        return "its manifest was never written"
    except (OSError, ValueError, KeyError, TypeError):
        return "its manifest is damaged"
    if step != int(folder.name):
        return "its manifest is of another step"
    for name, facts in files.items():
        path = output_folder / name
        if not path.resolve().is_relative_to(output_folder.resolve()):
            return "its manifest names files outside the job's folder"
        if folder not in path.parents:
            continue  # the user may move finished weights away; the state does not need them
        if not path.exists() or path.stat().st_size != facts["bytes"]:
            return f"{path.name} is missing or cut short"
        if sha256_file(path) != facts["sha256"]:
            return f"{path.name} is damaged"
    return None


def _read(output_folder: Path, folder: Path) -> Bundle:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    outside = (output_folder / name for name in manifest["files"])
    return Bundle(int(manifest["step"]), folder, tuple(path for path in outside if folder not in path.parents))
