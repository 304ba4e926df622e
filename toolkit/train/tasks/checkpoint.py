"""The tensors of a step bundle: written before its manifest, read once the bundle has been checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.files import Written, delete_file, sha256_file, whole_file, write_chunks
from toolkit.optimizers.stored.shards import read_state
from toolkit.output.bundles import MANIFEST, SHARDS, Bundle, bundle_folder, part_file, write_manifest
from toolkit.parallel.weight_layout import Piece, WeightLayout, WholeWeights
from toolkit.weights.row_files import RowFiles
from toolkit.weights.tensor_files import read_tensors, write_tensors

OPTIMIZER = "optimizer"
_ALONE = WholeWeights()


def write_bundle(
    output_folder: Path,
    *,
    step: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    output_files: tuple[Path, ...],
    facts: Mapping[str, Any],
    documents: Mapping[str, Any] | None = None,
    layout: WeightLayout = _ALONE,
) -> Bundle | None:
    """Write the state of a step. The manifest, with the size and hash of every file, is written last.

    Args:
        output_folder: the job's output folder.
        step: number of updates done.
        parts: name -> tensors that this process holds; each part becomes a safetensors file. Empty parts are left out.
        output_files: files with the user's weights of this step, already written.
        facts: what a later start should know, as plain JSON for the manifest.
        documents: name -> plain JSON that is too long for the manifest; each becomes a file.
        layout: where the weights are. Every process writes what it holds, and the first one the rest.

    Returns:
        The bundle; None on any other process than the first.

    Raises:
        OSError: a file cannot be written. There is no bundle of this step then.
        RankFailed: another process cannot write its files.
    """
    folder = bundle_folder(output_folder, step)
    # A bundle here is broken or from an abandoned run: it must stop being valid before its files change.
    layout.by_first(lambda: delete_file(folder / MANIFEST))
    mine = layout.together(lambda: _write_parts(folder, parts, layout))
    everyones = layout.gather(json.dumps({path.name: [one.num_bytes, one.sha256] for path, one in mine.items()}))

    def finish() -> Bundle:
        files = {path: Written(path.stat().st_size, sha256_file(path)) for path in output_files}
        for text in everyones:
            files |= {folder / name: Written(*written) for name, written in json.loads(text).items()}
        for name, document in (documents or {}).items():
            path = folder / f"{name}.json"
            with whole_file(path) as temporary:
                files[path] = write_chunks(temporary, [json.dumps(document, indent=0).encode("ascii")])
        shards = {} if layout.is_whole else {SHARDS: layout.count}
        return write_manifest(folder, files=files, facts={**facts, **shards})

    return layout.by_first(finish)


def read_part(bundle: Bundle, part: str, layout: WeightLayout = _ALONE) -> dict[str, Tensor]:
    """What this process holds of one part of the state, such as `weights`; empty if the bundle has none."""
    paths = bundle.part_files(part)
    if paths[0] not in bundle.files:
        return {}
    if layout.is_whole and len(paths) == 1:
        return read_tensors(paths[0])
    files = RowFiles(paths)
    return {name: files.read(name, layout.cut(files.num_rows(name))) for name in files}


def read_optimizer(bundle: Bundle, layout: WeightLayout, pieces: Sequence[Piece]) -> dict[str, Tensor]:
    """The optimizer's state for what this process holds; empty if the bundle has none.

    Args:
        bundle: the bundle.
        layout: where the weights are now; the bundle may have been written by more or fewer processes.
        pieces: what this process holds of each trained weight.
    """
    paths = bundle.part_files(OPTIMIZER)
    if paths[0] not in bundle.files:
        return {}
    if layout.is_whole and len(paths) == 1:
        return read_tensors(paths[0])
    return read_state(RowFiles(paths), pieces, len(paths))


def _write_parts(folder: Path, parts: Mapping[str, Mapping[str, Tensor]], layout: WeightLayout) -> dict[Path, Written]:
    files = {name: part_file(folder, name, layout.position, layout.count) for name in parts}
    return {files[name]: write_tensors(files[name], tensors) for name, tensors in parts.items() if tensors}
