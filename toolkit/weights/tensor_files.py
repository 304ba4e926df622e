"""Safetensors files: written whole, read with an error that names the file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import Written, whole_file, write_chunks

# The format's names, in the order in which the safetensors library lays tensors out: wide types first, so that each
# tensor starts where its type can be read. Files here are byte for byte what that library writes.
_TYPES: dict[torch.dtype, str] = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PLACES = {dtype: place for place, dtype in enumerate(_TYPES)}
_CHECKSUMS = "crc32"  # key of the metadata
_NOT_YET = "0" * 8


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    check: Callable[[Path], None] | None = None,
) -> Written:
    """Write a whole safetensors file; tensors may live anywhere and need not be contiguous.

    `check` is given the finished file before it takes its place: if it raises, what stood there stays.

    Written here and not by the safetensors library, because that one neither syncs nor tells how much was written, and
    wants a copy of every tensor on the CPU at once.
    """
    with whole_file(path) as temporary:
        written = write_chunks(temporary, _chunks(tensors, metadata or {}))
        if check is not None:
            check(temporary)
    return written


def num_bytes(tensors: Mapping[str, Tensor]) -> int:
    """What tensors take in a file, its header not counted."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def stream_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """As `write_tensors`, with a checksum of each tensor in the metadata.

    Raises:
        OSError: the folder cannot be written or the disk is full; nothing half-written is left.
    """
    checksums = dict.fromkeys(tensors, _NOT_YET)

    def note(name: str, content: memoryview) -> None:
        checksums[name] = _checksum(tensors[name], content)

    with whole_file(path) as temporary:
        write_chunks(temporary, _chunks(tensors, {**metadata, _CHECKSUMS: json.dumps(checksums)}, note=note))
        with temporary.open("rb+") as file:  # the checksums are known now, and the header is as long as before
            file.write(_header(tensors, {**metadata, _CHECKSUMS: json.dumps(checksums)}))


def checksum(tensor: Tensor) -> str:
    """CRC-32 of a tensor's type, shape and bytes, eight hex digits: finds damage at 2 GB/s, no forgery."""
    return _checksum(tensor, _bytes(tensor))


def read_checksums(path: Path) -> dict[str, str]:
    """What `stream_tensors` has noted of each tensor; nothing for files of other programs.

    Raises:
        UserError: there is no such file, or it is truncated or no safetensors file, or its checksums are damaged.
    """
    try:
        checksums = json.loads(read_metadata(path).get(_CHECKSUMS, "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its checksums are damaged ({error}).") from error
    if not isinstance(checksums, dict):
        raise UserError(f"{path}: its checksums are damaged.")
    return checksums


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        UserError: there is no such file, or it is truncated or no safetensors file.
    """
    with reading(path):
        return load_file(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The header's free-form metadata.

    Raises:
        UserError: there is no such file, or it is truncated or no safetensors file.
    """
    with reading(path), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong while a safetensors file is read, as a mistake of the user.

    Raises:
        UserError: there is no such file, or it is truncated or no safetensors file.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file.")
    if not path.is_file():  # opening a pipe would wait for ever
        raise UserError(f"{path}: is no file. Name a safetensors file.")
    try:
        yield
    except (OSError, SafetensorError, TypeError, OverflowError) as error:  # torch knows no sizes of 2**63 and more
        raise UserError(
            f"{path}: cannot be read as safetensors ({str(error).partition(chr(10))[0]}). It is damaged or was not "
            f"downloaded to the end ({path.stat().st_size:,} bytes): download it again."
        ) from error


def _chunks(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, note: Callable[[str, memoryview], None] | None = None
) -> Iterator[bytes | memoryview]:
    """The file from its first byte to its last: header, then tensors one by one; `note` is given each one's bytes."""
    yield _header(tensors, metadata)
    for name in _order(tensors):
        content = _bytes(tensors[name].detach().cpu().contiguous())
        if note is not None:
            note(name, content)
        yield content


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Length and text. Source: the format's description in the README of the safetensors repository."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in _order(tensors):
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin where numbers of eight bytes may
    return len(text).to_bytes(8, "little") + text


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(tensors, key=lambda name: (_PLACES[tensors[name].dtype], name))


def _checksum(tensor: Tensor, content: memoryview) -> str:
    kind = f"{_TYPES[tensor.dtype]} {list(tensor.shape)}"
    return f"{zlib.crc32(content, zlib.crc32(kind.encode())):08x}"


def _bytes(tensor: Tensor) -> memoryview:
    data: memoryview = tensor.reshape(-1).view(torch.uint8).numpy().data
    return data
