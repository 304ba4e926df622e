"""Safetensors files: written whole, read with an error that names the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import whole_file


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
