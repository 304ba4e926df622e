"""Tables of images and captions, as Hugging Face's `datasets` keeps them: parquet and arrow files."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import UserError

PARQUET, ARROW = ".parquet", ".arrow"
TABLES = (PARQUET, ARROW)
PACKAGE = "pyarrow==26.0.1"  # Apache-2.0
_KNOWN = ("image", "img", "jpg", "jpeg", "png", "webp", "picture")


@dataclass(frozen=True)
class Table:
    """One file of a table.

    Attributes:
        path: the file.
        content: its rows, a `pyarrow.Table` on the mapped file or a `pyarrow.parquet.ParquetFile`.
        image: name of the column that holds images.
        columns: names of all columns.
        num_rows: number of rows.
    """

    path: Path
    content: Any
    image: str
    columns: tuple[str, ...]
    num_rows: int

    def images(self) -> dict[str, Callable[[], bytes]]:
        """What reads each image: name of the row -> its bytes, when called."""
        return {row_name(row): partial(self._image, row) for row in range(self.num_rows)}

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """The rows without their images."""
        others = [name for name in self.columns if name != self.image]
        if not others:
            yield from ({} for _ in range(self.num_rows))
        elif hasattr(self.content, "iter_batches"):
            for batch in self.content.iter_batches(columns=others):
                yield from batch.to_pylist()
        else:
            for batch in self.content.select(others).to_batches(max_chunksize=1000):
                yield from batch.to_pylist()

    def _image(self, row: int) -> bytes:
        value = self._cell(row)
        if isinstance(value, Mapping):  # the `Image` feature: bytes, or where the file is
            if value.get("bytes") is None and value.get("path"):
                return (self.path.parent / value["path"]).read_bytes()
            value = value.get("bytes")
        if not isinstance(value, bytes):
            raise OSError(f"row {row} has no image")
        return value

    def _cell(self, row: int) -> Any:
        if not hasattr(self.content, "read_row_group"):
            return self.content.column(self.image)[row].as_py()
        groups, first = self.content.metadata, 0
        for group in range(groups.num_row_groups):
            size = groups.row_group(group).num_rows
            if row < first + size:
                return _group(self.path, self.path.stat().st_mtime_ns, group, self.image)[row - first].as_py()
            first += size
        raise OSError(f"has no row {row}")


def row_name(row: int) -> str:
    """The name that stands for the image of a row."""
    return f"{row:08d}.png"


def open_table(path: Path) -> Table:
    """A parquet or arrow file.

    Raises:
        UserError: reading it needs a package that is not installed.
        OSError: it cannot be read.
        ValueError: it is damaged, or holds no images.
    """
    arrow = _module("pyarrow")
    try:
        content = _parquet(path) if path.suffix.lower() == PARQUET else _arrow(path, arrow)
        schema = content.schema_arrow if path.suffix.lower() == PARQUET else content.schema
        num_rows = content.metadata.num_rows if path.suffix.lower() == PARQUET else content.num_rows
    except arrow.lib.ArrowException as error:
        raise ValueError(f"is not a {path.suffix[1:]} file, or is damaged ({str(error)[:200]})") from error
    images = [field.name for field in schema if _holds_images(field, arrow)]
    if not images:
        raise ValueError(f"has no column of images; its columns are: {', '.join(schema.names)}")
    image = next((name for name in _KNOWN if name in images), images[0])
    return Table(path, content, image, tuple(schema.names), num_rows)


def _arrow(path: Path, arrow: Any) -> Any:
    source = arrow.memory_map(str(path))
    try:
        return arrow.ipc.open_stream(source).read_all()  # as `datasets` writes it; maps, and reads nothing
    except arrow.lib.ArrowInvalid:
        return arrow.ipc.open_file(arrow.memory_map(str(path))).read_all()


def _parquet(path: Path) -> Any:
    return _module("pyarrow.parquet").ParquetFile(path)


@functools.lru_cache(maxsize=2)  # the images of a group, often a hundred, can only be read together
def _group(path: Path, changed_ns: int, group: int, column: str) -> Any:
    return _parquet(path).read_row_group(group, columns=[column]).column(column)


def _module(name: str) -> Any:
    try:
        importlib.import_module("pyarrow.ipc")
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"reading it needs a package that is not installed: pip install {PACKAGE}. Or save its images as files"
        ) from error


def _holds_images(field: Any, arrow: Any) -> bool:
    kind = field.type
    if arrow.types.is_struct(kind):
        return any(kind.field(index).name == "bytes" for index in range(kind.num_fields))
    return bool((arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)) and field.name in _KNOWN)
