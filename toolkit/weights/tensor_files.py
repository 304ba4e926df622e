"""Safetensors files: written whole, read with an error that names the file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import whole_file
from toolkit.weights.tensor_index import DTYPES

_CHECKSUMS = "crc32"  # key of the metadata
_NOT_YET = "0" * 8


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write a whole safetensors file; tensors may live anywhere and need not be contiguous.

    `check` is given the finished file before it takes its place: if it raises, what stood there stays.

    safetensors 0.8 renames but does not sync, and its files are readable by their owner only: hence `whole_file`.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as temporary:
        save_file(contiguous, temporary, metadata=dict(metadata or {}))
        if check is not None:
            check(temporary)


def stream_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a whole safetensors file with a checksum of each tensor, holding one tensor in host memory at a time.

    Raises:
        OSError: the folder cannot be written or the disk is full; nothing half-written is left.
    """
    checksums = dict.fromkeys(tensors, _NOT_YET)
    header = _header(tensors, metadata, checksums)
    with whole_file(path) as temporary, temporary.open("rb+") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name, tensor in tensors.items():
            on_host = tensor.detach().cpu().contiguous()
            checksums[name] = checksum(on_host)
            file.write(_bytes(on_host))
        file.seek(8)
        file.write(_header(tensors, metadata, checksums))


def checksum(tensor: Tensor) -> str:
    """CRC-32 of a tensor's bytes, eight hex digits: finds damage at 2 GB/s, no forgery."""
    return f"{zlib.crc32(_bytes(tensor)):08x}"


def read_checksums(path: Path) -> dict[str, str]:
    """What `stream_tensors` has noted of each tensor; nothing for files of other programs.

    Raises:
        UserError: there is no such file, or it is truncated or no safetensors file.
    """
    checksums: dict[str, str] = json.loads(read_metadata(path).get(_CHECKSUMS, "{}"))
    return checksums


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        UserError: there is no such file, or it is truncated or no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as safetensors ({error}).") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The header's free-form metadata.

    Raises:
        UserError: there is no such file, or it is truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as safetensors ({error}).") from error


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], checksums: Mapping[str, str]) -> bytes:
    """Of the same length whatever the checksums are. Source: the format's description in its repository's README."""
    spellings = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, object] = {"__metadata__": {**metadata, _CHECKSUMS: json.dumps(checksums)}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        dtype = spellings[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return text + b" " * (-len(text) % 8)  # tensors begin where numbers of eight bytes may


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data
