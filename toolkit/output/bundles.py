"""Finds, checks and moves step bundles on disk, by their manifests alone."""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.files import Written, delete_file, move, sha256_file, sha256_json, write_text

STATE_FOLDER = "state"
MANIFEST = "manifest.json"
BEGUN = "begun"  # exists from before the first file of a step is written until its manifest is complete
SET_ASIDE = "superseded"
SHARDS = "shards"  # key of the manifest; a bundle of one process has none
SNAPSHOT = "snapshot_"  # parts whose names begin so are kept as long as the weights are, not only to resume from
_FORMAT = 1
_DELETED = "deleted"
_LARGEST_MANIFEST = 1 << 26
_MOST_SHARDS = 1 << 16
_STEP_FOLDER = re.compile(r"\d{1,18}")


class BrokenBundle(Exception):
    """A bundle that must not be used.

    Attributes:
        folder: the bundle's folder.
        step: the step that the folder is named after.
        is_unfinished: the manifest was never written, or retention has deleted it: nothing is damaged.
    """

    def __init__(self, folder: Path, reason: str, *, is_unfinished: bool = False) -> None:
        super().__init__(reason)
        self.folder = folder
        self.step = int(folder.name)
        self.is_unfinished = is_unfinished


@dataclass(frozen=True)
class Bundle:
    """A checkpoint: weights for the user and, unless it has been deleted, the state that a run resumes from.

    Attributes:
        step: number of updates done.
        folder: folder of the state.
        manifest: content of the manifest: `files`, and facts about the run.
    """

    step: int
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def root(self) -> Path:
        """The job's output folder, which file names in the manifest are relative to."""
        return self.folder.parent.parent

    @property
    def files(self) -> dict[Path, Written]:
        """Every file of the bundle, with its size and hash."""
        described = self.manifest["files"].items()
        return {self.root / name: Written(facts["bytes"], facts["sha256"]) for name, facts in described}

    @property
    def output_files(self) -> tuple[Path, ...]:
        """Files with the user's weights of this step. They may be gone: the state does not need them."""
        return tuple(path for path in self.files if self.folder not in path.parents)

    @property
    def snapshot_files(self) -> tuple[Path, ...]:
        """Files of the state that are kept with the weights."""
        return tuple(path for path in self.files if path.parent == self.folder and path.name.startswith(SNAPSHOT))

    @property
    def has_state(self) -> bool:
        """Whether a run can resume from this bundle. Retention keeps the weights of more steps than their state."""
        return self.manifest.get("state") != _DELETED

    @property
    def shards(self) -> int:
        """Number of ranks that have written the state, each its own rows."""
        count: int = self.manifest.get(SHARDS, 1)
        return count

    def part_files(self, part: str) -> tuple[Path, ...]:
        """The files with one part of the state, such as `weights` or `optimizer`: one, or one for each shard."""
        return tuple(part_file(self.folder, part, index, self.shards) for index in range(self.shards))


def bundle_folder(output_folder: Path, step: int) -> Path:
    """The folder for the state of a step."""
    return output_folder / STATE_FOLDER / f"{step:09d}"


def part_file(folder: Path, part: str, index: int, shards: int) -> Path:
    """The file with one part of the state of a bundle, or with shard `index` (from 0) of several."""
    return folder / (f"{part}.safetensors" if shards == 1 else f"{part}.{index + 1}-of-{shards}.safetensors")


def write_manifest(folder: Path, *, files: Mapping[Path, Written], facts: Mapping[str, Any]) -> Bundle:
    """Declare a bundle complete. All its files must have been written and synced.

    Args:
        folder: the bundle's folder, from `bundle_folder`.
        files: the files of the state, and the user's weights of this step.
        facts: anything else that a later start should know, as plain JSON.
    """
    root = folder.parent.parent
    described = {
        path.relative_to(root).as_posix(): {"bytes": written.num_bytes, "sha256": written.sha256}
        for path, written in files.items()
    }
    content = {**facts, "format": _FORMAT, "step": int(folder.name), "files": described}
    write_text(folder / MANIFEST, _render({**content, "sha256": sha256_json(content)}))
    delete_file(folder / BEGUN)
    return read_bundle(folder)


def begin_bundle(folder: Path) -> None:
    """Mark that files of a step are being written. If writing is cut short, a later start can tell whose they are.

    Args:
        folder: the bundle's folder, from `bundle_folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BEGUN).touch()


def is_begun(folder: Path) -> bool:
    """Whether a run has written, or has started to write, a bundle to this folder."""
    return any((folder / name).exists() for name in (MANIFEST, BEGUN))


def without_state(bundle: Bundle) -> Bundle:
    """Declare the state of a bundle deleted, but for snapshots. Only after that may its files be deleted."""
    facts = {key: value for key, value in bundle.manifest.items() if key not in ("format", "step", "files", "sha256")}
    files = {path: bundle.files[path] for path in (*bundle.output_files, *bundle.snapshot_files)}
    return write_manifest(bundle.folder, files=files, facts={**facts, "state": _DELETED})


def read_bundle(folder: Path, *, is_thorough: bool = False) -> Bundle:
    """Read a bundle, checking its manifest and the sizes of its files.

    Args:
        folder: the bundle's folder, as `bundle_folder` names it.
        is_thorough: whether to compare the hashes of its state, too.

    Raises:
        BrokenBundle: the manifest is missing or damaged, or a file is missing or has the wrong size.
    """
    try:
        text = _read(folder / MANIFEST)
        manifest = json.loads(text)
        bundle = Bundle(int(folder.name), folder, manifest)
        files, step = bundle.files, manifest["step"]
        is_as_written = _is_as_written(text, manifest)
        root = bundle.root.resolve()
        is_inside = all(path.resolve().is_relative_to(root) for path in files)
        has_shards = type(bundle.shards) is int and 1 <= bundle.shards <= _MOST_SHARDS
    except FileNotFoundError:
        raise BrokenBundle(folder, "its manifest was never written", is_unfinished=True) from None
    except OSError as error:
        raise BrokenBundle(folder, f"its manifest cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:  # Runtime: a loop of links
        raise BrokenBundle(folder, "its manifest is damaged") from error
    if not is_as_written or not has_shards:
        raise BrokenBundle(folder, "its manifest is damaged")
    if not is_inside:
        raise BrokenBundle(folder, "its manifest names files outside the job's folder")
    if step != bundle.step:
        raise BrokenBundle(folder, "its manifest belongs to another step")
    state = {path: written for path, written in files.items() if folder in path.parents}
    for path, written in state.items():
        if file_size(path) != written.num_bytes:
            raise BrokenBundle(folder, f"{path.name} is missing or cut short")
    for path, written in state.items() if is_thorough else ():
        if _hash(path, folder) != written.sha256:
            raise BrokenBundle(folder, f"{path.name} is damaged")
    return bundle


def step_folders(output_folder: Path) -> list[Path]:
    """The folders of all bundles, complete or not, by step."""
    state = output_folder / STATE_FOLDER
    folders = [path for path in state.iterdir() if _STEP_FOLDER.fullmatch(path.name)] if state.is_dir() else []
    return sorted((path for path in folders if path.is_dir()), key=lambda path: int(path.name))


def newest_bundle(output_folder: Path, *, is_thorough: bool = True) -> tuple[Bundle | None, list[BrokenBundle]]:
    """The newest valid bundle that has a state, and the broken bundles above it. Older bundles are not read.

    Args:
        output_folder: the job's output folder.
        is_thorough: whether to compare hashes, and not only sizes.
    """
    passed_over: list[BrokenBundle] = []
    for folder in reversed(step_folders(output_folder)):
        try:
            bundle = read_bundle(folder, is_thorough=is_thorough)
        except BrokenBundle as broken:
            passed_over.append(broken)
        else:
            if bundle.has_state:
                return bundle, passed_over
    return None, passed_over


def find_bundles(output_folder: Path, *, is_thorough: bool = True) -> tuple[list[Bundle], list[BrokenBundle]]:
    """All bundles by step: the valid ones, and the broken ones."""
    bundles: list[Bundle] = []
    broken: list[BrokenBundle] = []
    for folder in step_folders(output_folder):
        try:
            bundles.append(read_bundle(folder, is_thorough=is_thorough))
        except BrokenBundle as fault:
            broken.append(fault)
    return bundles, broken


def set_aside(output_folder: Path, bundles: Iterable[Bundle | BrokenBundle], *, others: Iterable[Path] = ()) -> Path:
    """Move bundles and their weights aside, before a run writes their steps again.

    The new folder has the layout of the job's folder, so that a later start can resume from it. A bundle's state is
    moved last: until then it can be resumed from its old location.

    Args:
        output_folder: the job's output folder.
        bundles: bundles in this folder.
        others: other files and folders in this folder to move with them, if they exist.

    Returns:
        The folder that everything was moved to.
    """
    name = time.strftime("%Y%m%d-%H%M%S")
    candidates = (output_folder / SET_ASIDE / (f"{name}-{number}" if number else name) for number in range(1000))
    new_folder = next(folder for folder in candidates if not folder.exists())
    for bundle in bundles:
        weights = bundle.output_files if isinstance(bundle, Bundle) else ()
        for path in (*weights, bundle.folder):
            if path.exists():
                move(path, new_folder / path.relative_to(output_folder))
    for path in others:
        if path.exists():
            move(path, new_folder / path.relative_to(output_folder))
    return new_folder


def _render(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _is_as_written(text: str, manifest: dict[str, Any]) -> bool:
    if "format" not in manifest and "sha256" not in manifest:
        return True  # written by a version whose manifests had no hash
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return manifest.get("sha256") == sha256_json(content) and text == _render(manifest)


def _read(path: Path) -> str:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_MANIFEST:  # a pipe or a device would never end
        raise ValueError
    return path.read_text(encoding="utf-8")


def file_size(path: Path) -> int | None:
    """Size of a file in bytes; None if there is no such file."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _hash(path: Path, folder: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise BrokenBundle(folder, f"{path.name} cannot be read ({error.strerror or error})") from error
