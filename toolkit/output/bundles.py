"""Step bundles on disk: found, checked and moved aside, by their manifests alone."""

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
BEGUN = "begun"  # from before the first file of a step is written until its manifest is there
SET_ASIDE = "superseded"
_FORMAT = 1
_DELETED = "deleted"
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
    """A checkpoint: weights for the user and, unless it has been deleted, the state that a run goes on from.

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

    @property
    def has_state(self) -> bool:
        """Whether a run can go on from it. Retention keeps the state of fewer steps than their weights."""
        return self.manifest.get("state") != _DELETED

    def part_file(self, part: str) -> Path:
        """Where the tensors of a part of the state are, such as `weights` or `optimizer`."""
        return self.folder / f"{part}.safetensors"


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
    delete_file(folder / BEGUN)
    return read_bundle(folder)


def begin_bundle(folder: Path) -> None:
    """Say that files of a step are being written: should that be cut short, a later start knows them as this run's.

    Args:
        folder: from `bundle_folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BEGUN).touch()


def is_begun(folder: Path) -> bool:
    """Whether a run has written, or has begun to write, a bundle to this folder."""
    return any((folder / name).exists() for name in (MANIFEST, BEGUN))


def without_state(bundle: Bundle) -> Bundle:
    """Declare that the state of a bundle counts no longer; only then may its files be deleted."""
    facts = {key: value for key, value in bundle.manifest.items() if key not in ("format", "step", "files", "sha256")}
    files = {path: bundle.files[path] for path in bundle.output_files}
    return write_manifest(bundle.folder, files=files, facts={**facts, "state": _DELETED})


def read_bundle(folder: Path, *, is_thorough: bool = False) -> Bundle:
    """A bundle whose manifest is whole and whose files have the right sizes.

    Args:
        folder: from `bundle_folder`.
        is_thorough: compare the hashes of its state too.

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
    state = {path: written for path, written in files.items() if folder in path.parents}
    for path, written in state.items():
        if file_size(path) != written.num_bytes:
            raise BrokenBundle(folder, f"{path.name} is missing or cut short")
    for path, written in state.items() if is_thorough else ():
        if _hash(path, folder) != written.sha256:
            raise BrokenBundle(folder, f"{path.name} is damaged")
    return bundle


def step_folders(output_folder: Path) -> list[Path]:
    """The folders of all bundles, whole or not, by step."""
    state = output_folder / STATE_FOLDER
    folders = [path for path in state.iterdir() if _STEP_FOLDER.fullmatch(path.name)] if state.is_dir() else []
    return sorted((path for path in folders if path.is_dir()), key=lambda path: int(path.name))


def newest_bundle(output_folder: Path, *, is_thorough: bool = True) -> tuple[Bundle | None, list[BrokenBundle]]:
    """The valid bundle of the highest step that has a state, and the broken ones above it. Reads no further than that.

    Args:
        output_folder: the job's folder.
        is_thorough: compare hashes too, not only sizes.
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
    """All bundles by step, the valid and the broken ones."""
    bundles: list[Bundle] = []
    broken: list[BrokenBundle] = []
    for folder in step_folders(output_folder):
        try:
            bundles.append(read_bundle(folder, is_thorough=is_thorough))
        except BrokenBundle as fault:
            broken.append(fault)
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


def file_size(path: Path) -> int | None:
    """Bytes of a file; None if there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _hash(path: Path, folder: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise BrokenBundle(folder, f"{path.name} cannot be read ({error.strerror or error})") from error
