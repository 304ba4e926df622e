"""Step bundles on disk: found, checked, moved aside and pruned, by their manifests alone."""

from __future__ import annotations

import contextlib
import json
import re
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.files import TEMPORARY_PREFIX, Written, delete_file, move, sha256_file, sha256_json, write_text

STATE_FOLDER = "state"
MANIFEST = "manifest.json"
SET_ASIDE = "superseded"
_FORMAT = 1
_LARGEST_MANIFEST = 1 << 26
_STEP_FOLDER = re.compile(r"\d{1,18}")


class BrokenBundle(Exception):
    """A bundle that must not be used.

    Attributes:
        folder: where it is.
        step: as its folder is named.
        is_unfinished: no manifest was ever written, or prune has removed it: nothing has been damaged.
    """

    def __init__(self, folder: Path, reason: str, *, is_unfinished: bool = False) -> None:
        super().__init__(reason)
        self.folder = folder
        self.step = int(folder.name)
        self.is_unfinished = is_unfinished


@dataclass(frozen=True)
class Bundle:
    """Everything a run needs to go on from a step.

    Attributes:
        step: updates done.
        folder: where its state is.
        manifest: what was written of it: `files`, and facts on the run.
    """

    step: int
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def root(self) -> Path:
        """The job's folder, to which the names of files are relative."""
        return self.folder.parent.parent

    @property
    def files(self) -> dict[Path, Written]:
        """Every file with its size and hash."""
        described = self.manifest["files"].items()
        return {self.root / name: Written(facts["bytes"], facts["sha256"]) for name, facts in described}

    @property
    def output_files(self) -> tuple[Path, ...]:
        """Weights for the user that belong to this step. They may be gone: the state does not need them."""
        return tuple(path for path in self.files if self.folder not in path.parents)

    def part_file(self, part: str) -> Path:
        """Where the tensors of a part of the state are, such as `weights` or `optimizer`."""
        return self.folder / f"{part}.safetensors"

    def check(self) -> None:
        """Read the whole state.

        Raises:
            BrokenBundle: a file is not what was written.
        """
        for path, written in self.files.items():
            if self.folder in path.parents and _hash(path, self.folder) != written.sha256:
                raise BrokenBundle(self.folder, f"{path.name} is damaged")


def bundle_folder(output_folder: Path, step: int) -> Path:
    """Where the state of a step is kept."""
    return output_folder / STATE_FOLDER / f"{step:09d}"


def write_manifest(folder: Path, *, files: Mapping[Path, Written], facts: Mapping[str, Any]) -> Bundle:
    """Declare a bundle whole. All its files have been written and synced.

    Args:
        folder: from `bundle_folder`.
        files: what is in it, and the weights for the user that belong to it.
        facts: more that a later start should know; plain JSON.
    """
    root = folder.parent.parent
    described = {
        path.relative_to(root).as_posix(): {"bytes": written.num_bytes, "sha256": written.sha256}
        for path, written in files.items()
    }
    content = {**facts, "format": _FORMAT, "step": int(folder.name), "files": described}
    write_text(folder / MANIFEST, _render({**content, "sha256": sha256_json(content)}))
    return read_bundle(folder)


def read_bundle(folder: Path) -> Bundle:
    """A bundle whose manifest is whole and whose files have the right sizes; `Bundle.check` reads them too.

    Raises:
        BrokenBundle: it is none.
    """
    try:
        text = _read(folder / MANIFEST)
        manifest = json.loads(text)
        bundle = Bundle(int(folder.name), folder, manifest)
        files, step = bundle.files, manifest["step"]
        is_as_written = _is_as_written(text, manifest)
        root = bundle.root.resolve()
        is_inside = all(path.resolve().is_relative_to(root) for path in files)
    except FileNotFoundError:
        raise BrokenBundle(folder, "its manifest was never written", is_unfinished=True) from None
    except OSError as error:
        raise BrokenBundle(folder, f"its manifest cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:  # Runtime: a loop of links
        raise BrokenBundle(folder, "its manifest is damaged") from error
    if not is_as_written:
        raise BrokenBundle(folder, "its manifest is damaged")
    if not is_inside:
        raise BrokenBundle(folder, "its manifest names files outside the job's folder")
    if step != bundle.step:
        raise BrokenBundle(folder, "its manifest is of another step")
    for path, written in files.items():
        if folder in path.parents and _size(path) != written.num_bytes:
            raise BrokenBundle(folder, f"{path.name} is missing or cut short")
    return bundle


def step_folders(output_folder: Path) -> list[Path]:
    """The folders of all bundles, whole or not, by step."""
    state = output_folder / STATE_FOLDER
    folders = [path for path in state.iterdir() if _STEP_FOLDER.fullmatch(path.name)] if state.is_dir() else []
    return sorted((path for path in folders if path.is_dir()), key=lambda path: int(path.name))


def newest_bundle(output_folder: Path, *, is_thorough: bool = True) -> tuple[Bundle | None, list[BrokenBundle]]:
    """The valid bundle of the highest step, and the broken ones above it. Reads no further than that.

    Args:
        output_folder: the job's folder.
        is_thorough: compare hashes too, not only sizes.
    """
    passed_over: list[BrokenBundle] = []
    for folder in reversed(step_folders(output_folder)):
        try:
            bundle = read_bundle(folder)
            if is_thorough:
                bundle.check()
        except BrokenBundle as broken:
            passed_over.append(broken)
        else:
            return bundle, passed_over
    return None, passed_over


def find_bundles(output_folder: Path, *, is_thorough: bool = True) -> tuple[list[Bundle], list[BrokenBundle]]:
    """All bundles by step, the valid and the broken ones."""
    bundles: list[Bundle] = []
    broken: list[BrokenBundle] = []
    for folder in step_folders(output_folder):
        try:
            bundle = read_bundle(folder)
            if is_thorough:
                bundle.check()
        except BrokenBundle as fault:
            broken.append(fault)
        else:
            bundles.append(bundle)
    return bundles, broken


def set_aside(output_folder: Path, bundles: Iterable[Bundle | BrokenBundle], *, others: Iterable[Path] = ()) -> Path:
    """Move bundles with their weights out of the way of a run that will write these steps again.

    The folder they go to is laid out like the job's, so that a later start can resume from them. A bundle's state goes
    last: until then it can be resumed where it was.

    Args:
        output_folder: the job's folder.
        bundles: of this folder.
        others: more files and folders in it, where they exist.

    Returns:
        The folder that holds them now.
    """
    name = time.strftime("%Y%m%d-%H%M%S")
    places = (output_folder / SET_ASIDE / (f"{name}-{number}" if number else name) for number in range(1000))
    place = next(place for place in places if not place.exists())
    for bundle in bundles:
        weights = bundle.output_files if isinstance(bundle, Bundle) else ()
        for path in (*weights, bundle.folder):
            if path.exists():
                move(path, place / path.relative_to(output_folder))
    for path in others:
        if path.exists():
            move(path, place / path.relative_to(output_folder))
    return place


def discard_unfinished(folder: Path, output_files: Iterable[Path]) -> None:
    """Delete what a bundle that could not be finished has taken of the disk, as far as that is possible."""
    with contextlib.suppress(OSError):
        for path in output_files:
            delete_file(path)
    with contextlib.suppress(OSError):
        delete_file(folder / MANIFEST)
        _clear(folder)


def prune(output_folder: Path, keep: int, *, newest: int) -> list[Path]:
    """Delete old bundles and what unfinished ones left, with the weights that their manifests list.

    Trusts manifests and sizes; nothing is hashed. A file of another size than was written is no longer ours: it stays.

    Args:
        output_folder: the job's folder.
        keep: how many stay, counted from `newest` down; 0 keeps everything.
        newest: step of the bundle that was just written. It and those above it stay.

    Returns:
        The files that the user sees disappear.
    """
    bundles, broken = find_bundles(output_folder, is_thorough=False)
    kept = [bundle.step for bundle in bundles if bundle.step <= newest][-keep:]
    if not keep or not kept:
        return []
    deleted: list[Path] = []
    for bundle in bundles:
        if bundle.step < kept[0]:
            deleted += _delete(bundle)
    for fault in broken:
        if fault.step < kept[0] and fault.is_unfinished:
            _clear(fault.folder)
    return deleted


def _delete(bundle: Bundle) -> list[Path]:
    """Weights first: as long as the manifest stands, a later prune knows what is left to do."""
    deleted = []
    for path in bundle.output_files:
        if _size(path) == bundle.files[path].num_bytes:
            delete_file(path)
            deleted.append(path)
            _remove_empty(path.parents[: len(path.relative_to(bundle.root).parents) - 1])
    delete_file(bundle.folder / MANIFEST)
    _clear(bundle.folder)
    return deleted


def _clear(folder: Path) -> None:
    """Delete what we write into a bundle's folder, and the folder unless something of the user's is in there."""
    for path in folder.iterdir():
        if path.suffix in (".safetensors", ".json") or path.name.startswith(TEMPORARY_PREFIX):
            delete_file(path)
    _remove_empty([folder])


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # something of the user's is in there
            folder.rmdir()


def _render(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _is_as_written(text: str, manifest: dict[str, Any]) -> bool:
    if "format" not in manifest and "sha256" not in manifest:
        return True  # written before manifests had a hash of their own
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return manifest.get("sha256") == sha256_json(content) and text == _render(manifest)


def _read(path: Path) -> str:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_MANIFEST:  # a pipe or a device would never end
        raise ValueError
    return path.read_text(encoding="utf-8")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _hash(path: Path, folder: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise BrokenBundle(folder, f"{path.name} cannot be read ({error.strerror or error})") from error
