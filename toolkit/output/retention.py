"""Deletes old checkpoints, the state of checkpoints that keep only their weights, and unfinished checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from pathlib import Path

from toolkit.files import TEMPORARY_PREFIX, delete_file
from toolkit.output.bundles import BEGUN, MANIFEST, Bundle, file_size, find_bundles, without_state


def prune(output_folder: Path, keep: int, *, newest: int, keep_states: int = 0) -> list[Path]:
    """Delete old bundles with their weights, the remains of unfinished bundles, and then old states.

    Trusts manifests and sizes; nothing is hashed. A file whose size has changed is no longer ours and is kept. The
    newest bundle that a run can resume from is always kept, whatever the settings.

    Args:
        output_folder: the job's output folder.
        keep: how many bundles to keep, counted from `newest` down; 0 keeps all.
        newest: step of the bundle that was just written. It and all later bundles are kept.
        keep_states: how many of the kept bundles keep the state that a run resumes from; 0: all.

    Returns:
        What was deleted, as the user sees it: weight files, and the folders of states whose weights are kept.
    """
    bundles, broken = find_bundles(output_folder, is_thorough=False)
    known = [bundle for bundle in bundles if bundle.step <= newest]
    with_state = [bundle.step for bundle in known if bundle.has_state]
    if not with_state:
        return []
    deleted: list[Path] = []
    if keep:
        first = min([bundle.step for bundle in known][-keep], with_state[-1]) if len(known) > keep else known[0].step
        for bundle in known:
            if bundle.step < first:
                deleted += _delete(bundle)
        for fault in broken:
            if fault.step < first and fault.is_unfinished:
                _clear(fault.folder)
        known = [bundle for bundle in known if bundle.step >= first]
    if keep_states:
        first = with_state[-keep_states:][0]
        for bundle in known:
            if bundle.step < first and _delete_state(bundle):
                deleted.append(bundle.folder)
    return deleted


def _delete_state(bundle: Bundle) -> bool:
    """Rewrite the manifest, then delete the files it no longer lists. Returns whether there was a state to delete."""
    # The last step of a run that was later extended: no bundle owns the final weights.
    if not bundle.output_files and not bundle.snapshot_files:
        _delete(bundle)
        return True
    had_state = bundle.has_state
    if had_state:
        without_state(bundle)
    _clear(bundle.folder, keep={MANIFEST, *(path.name for path in bundle.snapshot_files)})
    return had_state


def discard_unfinished(folder: Path, output_files: Iterable[Path]) -> None:
    """Free the disk space of a bundle that could not be finished, as far as possible."""
    with contextlib.suppress(OSError):
        for path in output_files:
            delete_file(path)
    with contextlib.suppress(OSError):
        delete_file(folder / MANIFEST)
        _clear(folder)


def _delete(bundle: Bundle) -> list[Path]:
    """Delete the weights first: as long as the manifest exists, a later call can finish the job."""
    deleted = []
    for path in bundle.output_files:
        if file_size(path) == bundle.files[path].num_bytes:
            delete_file(path)
            deleted.append(path)
            _remove_empty(path.parents[: len(path.relative_to(bundle.root).parents) - 1])
    delete_file(bundle.folder / MANIFEST)
    _clear(bundle.folder)
    return deleted


def _clear(folder: Path, *, keep: Collection[str] = ()) -> None:
    """Delete the files that we write to a bundle's folder, and the folder if nothing else is in it."""
    for path in folder.iterdir():
        is_ours = path.suffix in (".safetensors", ".json") or path.name == BEGUN
        is_ours |= path.name.startswith(TEMPORARY_PREFIX)
        if is_ours and path.name not in keep:
            delete_file(path)
    _remove_empty([folder])


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # the user has put something there
            folder.rmdir()
