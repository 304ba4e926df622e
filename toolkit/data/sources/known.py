"""What is known about image files from earlier starts, so that a second start opens no unchanged file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from toolkit.data.sources.stored import Identity
from toolkit.quantize.cache_folder import trainer_cache

MOST_KEPT = 500_000  # files; about 150 MB
_WAIT_S = 5.0
_AT_ONCE = 500
IMAGES_TABLE = "images_1"  # the number is raised when the facts about the same file would be others


def known_file() -> Path:
    """Where the facts of all datasets of this user are kept."""
    return trainer_cache() / "images.sqlite"


class KnownFiles:
    """Facts about files on disk, by path. Another program may use the same file at the same time.

    Nothing depends on it: if it cannot be read or written, files are opened again. A damaged file is made again.

    Args:
        file: where it is; asked at each use.
        table: the table of these facts in it.
    """

    def __init__(self, file: Callable[[], Path] = known_file, *, table: str = IMAGES_TABLE) -> None:
        self._file = file
        self._table = table

    def read(self, paths: Sequence[str]) -> dict[str, tuple[Identity, Mapping[str, Any]]]:
        """The identity and the facts of those files that are known."""
        if not self._file().exists():
            return {}
        rows = self._ask(lambda base: list(_rows(base, self._table, paths))) or []
        return {os.fsdecode(name): (tuple(json.loads(found)), json.loads(facts)) for name, found, facts in rows}

    def write(self, files: Iterable[tuple[str, Identity, Mapping[str, Any]]]) -> None:
        """Keep facts; the oldest ones are forgotten if there are too many."""
        rows = [(os.fsencode(path), json.dumps(found), json.dumps(facts)) for path, found, facts in files]

        def keep(base: sqlite3.Connection) -> None:
            with base:
                base.execute(
                    f"CREATE TABLE IF NOT EXISTS {self._table} (path BLOB PRIMARY KEY, identity TEXT, facts TEXT)"
                )
                base.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?)", rows)
                base.execute(
                    f"DELETE FROM {self._table} WHERE rowid <= (SELECT max(rowid) FROM {self._table}) - ?", [MOST_KEPT]
                )

        self._ask(keep)

    def forget(self, path: str) -> None:
        """Open this file again the next time."""

        def drop(base: sqlite3.Connection) -> None:
            with base:
                base.execute(f"DELETE FROM {self._table} WHERE path = ?", [os.fsencode(path)])

        if self._file().exists():
            self._ask(drop)

    def _ask(self, ask: Callable[[sqlite3.Connection], Any]) -> Any:
        """The answer; None if the file cannot be used."""
        file = self._file()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(file, timeout=_WAIT_S)) as base:
                return ask(base)
        except (OSError, sqlite3.OperationalError):  # no permission, read-only, locked for long, no such table
            return None
        except sqlite3.DatabaseError:
            file.unlink(missing_ok=True)
            return None


def _rows(base: sqlite3.Connection, table: str, paths: Sequence[str]) -> Iterator[tuple[bytes, str, str]]:
    for start in range(0, len(paths), _AT_ONCE):
        names = [os.fsencode(path) for path in paths[start : start + _AT_ONCE]]
        marks = ", ".join("?" * len(names))
        yield from base.execute(f"SELECT path, identity, facts FROM {table} WHERE path IN ({marks})", names)
