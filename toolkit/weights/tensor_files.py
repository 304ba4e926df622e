"""Safetensors files: written atomically, read with errors that name the file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import Written, whole_file, write_chunks
from toolkit.parallel.deferred import value_of

# The format's type names, in the order in which the safetensors library lays tensors out: wide types first, so that
# every tensor is aligned. Files written here are byte for byte what that library writes.
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
_ORDER = {dtype: index for index, dtype in enumerate(_TYPES)}
_CHECKSUMS = "crc32"  # key of the metadata
_PLACEHOLDER = "0" * 8
_ALIGNMENT = 8  # bytes, of the beginning of the tensors in files that the safetensors library writes


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    check: Callable[[Path], None] | None = None,
    read: Callable[[Tensor], Tensor] = value_of,
) -> Written:
    """Write a safetensors file atomically; tensors may be on any device and need not be contiguous.

    `check` is called with the finished temporary file before it is moved to `path`: if it raises, an existing file at
    `path` is kept.

    The safetensors library is not used because it does not sync, does not return the number of bytes written, and needs
    a copy of every tensor on the CPU at once.

    `read` returns the values of a tensor that is known only by its shape. It is called with one after another, in the
    order of `file_order`, and nothing keeps what it returns.
    """
    order = file_order(tensors)
    with whole_file(path) as temporary:
        written = write_chunks(
            temporary, chain([_header(tensors, metadata or {}, order)], _contents(tensors, order, read=read))
        )
        if check is not None:
            check(temporary)
    return written


def num_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Size of the tensors in a file, without its header."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def stream_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, alignment: int = _ALIGNMENT
) -> None:
    """Like `write_tensors`, in the order that is given, with a checksum of each tensor in the metadata.

    Args:
        path, tensors, metadata: see `write_tensors`.
        alignment: the first tensor begins at a multiple of so many bytes, itself a multiple of 8.

    Raises:
        OSError: the folder cannot be written or the disk is full; no partial file is left behind.
    """
    checksums, order = dict.fromkeys(tensors, _PLACEHOLDER), list(tensors)

    def header() -> bytes:
        return _header(tensors, {**metadata, _CHECKSUMS: json.dumps(checksums)}, order, alignment=alignment)

    def note(name: str, content: memoryview) -> None:
        checksums[name] = _checksum(tensors[name], content)

    with whole_file(path) as temporary:
        write_chunks(temporary, chain([header()], _contents(tensors, order, note=note)))
        with temporary.open("rb+") as file:  # the checksums are known now; the header's length has not changed
            file.write(header())


def checksum(tensor: Tensor) -> str:
    """CRC-32 of a tensor's type, shape and bytes, eight hex digits: detects damage (2 GB/s), not tampering."""
    return _checksum(tensor, _bytes(tensor))


def read_checksums(path: Path) -> dict[str, str]:
    """The checksums that `stream_tensors` wrote, by tensor name; empty for files of other programs.

    Raises:
        UserError: the file is missing, truncated or not a safetensors file, or its checksums are damaged.
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
        UserError: the file is missing, truncated or not a safetensors file.
    """
    with reading(path):
        return load_file(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The header's free-form metadata.

    Raises:
        UserError: the file is missing, truncated or not a safetensors file.
    """
    with reading(path), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Context in which failures to read a safetensors file become a UserError.

    Raises:
        UserError: the file is missing, truncated or not a safetensors file.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file.")
    if not path.is_file():  # opening a pipe would wait forever
        raise UserError(f"{path}: not a file. Give a safetensors file.")
    try:
        yield
    except (OSError, SafetensorError, TypeError, OverflowError) as error:  # torch fails on sizes of 2**63 and more
        raise UserError(
            f"{path}: cannot be read as safetensors ({str(error).partition(chr(10))[0]}). It is damaged or was not "
            f"downloaded completely ({path.stat().st_size:,} bytes): download it again."
        ) from error


def _contents(
    tensors: Mapping[str, Tensor],
    order: Sequence[str],
    *,
    note: Callable[[str, memoryview], None] | None = None,
    read: Callable[[Tensor], Tensor] = value_of,
) -> Iterator[memoryview]:
    """The bytes of the tensors one by one. `note` is called with each tensor's bytes."""
    for name in order:
        content = _bytes(read(tensors[name]).detach().cpu().contiguous())
        if note is not None:
            note(name, content)
        yield content


def _header(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], order: Sequence[str], *, alignment: int = _ALIGNMENT
) -> bytes:
    """Header length and JSON text. Source: format description in the README of the safetensors repository."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % alignment)  # the tensors begin at a multiple of that many bytes
    return len(text).to_bytes(8, "little") + text


def file_order(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors in the order in which they are written."""
    return sorted(tensors, key=lambda name: (_ORDER[tensors[name].dtype], name))


def _checksum(tensor: Tensor, content: memoryview) -> str:
    kind = f"{_TYPES[tensor.dtype]} {list(tensor.shape)}"
    return f"{zlib.crc32(content, zlib.crc32(kind.encode())):08x}"


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.reshape(-1)
    if flat.numel() == 1:  # its stride may be that of the tensor it was cut out of
        flat = flat.clone(memory_format=torch.contiguous_format).as_strided((1,), (1,))
    data: memoryview = flat.view(torch.uint8).numpy().data
    return data
