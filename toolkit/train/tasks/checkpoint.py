"""The tensors of a step bundle: written before its manifest, read once the bundle has been checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.files import Written, delete_file, sha256_file, whole_file, write_chunks
from toolkit.output.bundles import MANIFEST, Bundle, bundle_folder, write_manifest
from toolkit.weights.tensor_files import read_tensors, write_tensors


def write_bundle(
    output_folder: Path,
    *,
    step: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    output_files: tuple[Path, ...],
    facts: Mapping[str, Any],
    documents: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write the state of a step. The manifest, with the size and hash of every file, is written last.

    Args:
        output_folder: the job's output folder.
        step: number of updates done.
        parts: name -> tensors; each part becomes one safetensors file. Empty parts are left out.
        output_files: files with the user's weights of this step, already written.
        facts: what a later start should know, as plain JSON for the manifest.
        documents: name -> plain JSON that is too long for the manifest; each becomes a file.

    Raises:
        OSError: a file cannot be written. There is no bundle of this step then.
    """
    folder = bundle_folder(output_folder, step)
    # A bundle here is broken or from an abandoned run: it must stop being valid before its files change.
    delete_file(folder / MANIFEST)
    files = {path: Written(path.stat().st_size, sha256_file(path)) for path in output_files}
    for name, tensors in parts.items():
        if tensors:
            path = folder / f"{name}.safetensors"
            files[path] = write_tensors(path, tensors)
    for name, document in (documents or {}).items():
        path = folder / f"{name}.json"
        with whole_file(path) as temporary:
            files[path] = write_chunks(temporary, [json.dumps(document, indent=0).encode("ascii")])
    return write_manifest(folder, files=files, facts=facts)


def read_part(bundle: Bundle, part: str) -> dict[str, Tensor]:
    """One part of the state, such as `weights` or `optimizer`; empty if the bundle has none."""
    path = bundle.part_file(part)
    return read_tensors(path) if path in bundle.files else {}
