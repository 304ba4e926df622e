"""The index: what waits in the queue and what the page has asked of a run. Output folders hold the truth."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

Place = Literal["", "queued", "paused"]
Wish = Literal["", "stop", "pause", "kill"]
_NETWORK_DRIVES = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs"}
_TIMEOUT_S = 10.0  # for another program that writes
_PASSING = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, folder TEXT NOT NULL, place TEXT NOT NULL DEFAULT '', gpu INTEGER, position REAL NOT NULL
    DEFAULT 0, arguments TEXT NOT NULL DEFAULT '[]', wish TEXT NOT NULL DEFAULT '', wished REAL NOT NULL DEFAULT 0,
    start TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Entry:
    """What the index knows of a job.

    Attributes:
        id: of the job.
        folder: its output folder.
        place: whether it waits in the queue.
        gpu: the card it was given; None for the first that is free.
        position: in the queue; smaller ones are first.
        arguments: of its next start, beside the job file.
        wish: what the page has asked of its run.
        wished: when, in seconds since 1970.
        start: which start a wish is meant for; of a job that waits, the page's last one before it was put there. Empty
            if an older version wrote the entry.
    """

    id: str
    folder: Path
    place: Place = ""
    gpu: int | None = None
    position: float = 0.0
    arguments: tuple[str, ...] = ()
    wish: Wish = ""
    wished: float = 0.0
    start: str = ""


class Store:
    """A SQLite file. One that is damaged is put aside, and a new one begun: that loses the order of the queue.

    Attributes:
        notice: what the user should know of the file after `open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice: str | None = None
        self._lock = threading.RLock()

    def open(self, *, is_new: bool = False) -> None:
        """Open the file, or make it. With `is_new` what it holds is put aside first.

        Raises:
            OSError, sqlite3.OperationalError: it seems intact, but cannot be opened now.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if is_new and self.path.exists():
            self._put_aside("former")
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError as error:
            if _is_passing(error):
                raise
            aside = self._put_aside("damaged")
            self.notice = (
                f"The index was damaged and has been renamed to {aside.name}. "
                "A new one was created; queued jobs are now drafts."
            )
            self._db = self._connect()

    def try_out(self) -> str | None:
        """Open the file, write into it, and close it. Returns the notice; raises as `open` does."""
        self.open()
        try:
            self.set_fact("tried", str(time.time()))
        finally:
            self.close()
        return self.notice

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def entries(self) -> dict[str, Entry]:
        """Every job that the index knows of, by id."""
        with self._lock:
            return {row["id"]: _entry(row) for row in self._db.execute("SELECT * FROM jobs ORDER BY position")}

    def entry(self, job_id: str) -> Entry | None:
        """One job."""
        with self._lock:
            row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else _entry(row)

    def put(self, entry: Entry) -> None:
        """Remember a job."""
        values = (
            entry.id,
            str(entry.folder),
            entry.place,
            entry.gpu,
            entry.position,
            json.dumps(entry.arguments),
            entry.wish,
            entry.wished,
            entry.start,
        )
        with self._changing() as db:
            db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def forget(self, job_id: str) -> None:
        """Forget a job."""
        with self._changing() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def place_last(self) -> float:
        """A position behind all others."""
        with self._lock:
            row = self._db.execute("SELECT MAX(position) FROM jobs WHERE place != ''").fetchone()
        return float(row[0] or 0.0) + 1.0

    def order(self, ids: list[str]) -> None:
        """Give waiting jobs the order of a list; those that it leaves out stay behind them."""
        with self._changing() as db:
            places = {row["id"]: row["position"] for row in db.execute("SELECT * FROM jobs WHERE place != ''")}
            known = [job_id for job_id in dict.fromkeys(ids) if job_id in places]
            rest = sorted((job_id for job_id in places if job_id not in known), key=places.__getitem__)
            for position, job_id in enumerate([*known, *rest], 1):
                db.execute("UPDATE jobs SET position = ? WHERE id = ?", (float(position), job_id))

    def fact(self, key: str, default: str = "") -> str:
        """A value by its name."""
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return default if row is None else str(row[0])

    def facts(self, prefix: str) -> dict[str, str]:
        """Every value whose name begins so."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM facts WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
            return {row["key"]: row["value"] for row in rows}

    def set_fact(self, key: str, value: str) -> None:
        """Remember a value by its name; forget it if it is empty."""
        with self._changing() as db:
            if value:
                db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))
            else:
                db.execute("DELETE FROM facts WHERE key = ?", (key,))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._db:
            yield self._db

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, timeout=_TIMEOUT_S)
        try:
            db.row_factory = sqlite3.Row
            # A log beside the file is quicker, but spoils it on drives that have no shared memory.
            db.execute(f"PRAGMA journal_mode = {'DELETE' if _is_on_network(self.path) else 'WAL'}")
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("damaged")
            db.executescript(_TABLES)
            if "start" not in [row["name"] for row in db.execute("PRAGMA table_info(jobs)")]:  # of an older version
                db.execute("ALTER TABLE jobs ADD COLUMN start TEXT NOT NULL DEFAULT ''")
            db.execute("SELECT id, folder, place, gpu, position, arguments, wish, wished, start FROM jobs LIMIT 1")
            list(map(_entry, db.execute("SELECT * FROM jobs")))
        except sqlite3.DatabaseError:
            db.close()
            raise
        except (ValueError, TypeError, IndexError) as error:
            db.close()
            raise sqlite3.DatabaseError(str(error)) from error
        return db

    def _put_aside(self, why: str) -> Path:
        aside = self.path.with_name(f"{self.path.stem}-{why}-{time.time_ns()}{self.path.suffix}")
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return aside


def _entry(row: Any) -> Entry:
    return Entry(
        id=row["id"],
        folder=Path(row["folder"]),
        place=row["place"],
        gpu=row["gpu"],
        position=float(row["position"]),
        arguments=tuple(map(str, json.loads(row["arguments"]))),
        wish=row["wish"],
        wished=float(row["wished"]),
        start=row["start"],
    )


def _is_passing(error: sqlite3.Error) -> bool:
    """Whether the place is to blame and not the file: no room, no permission, or another program that writes."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _PASSING


def _is_on_network(path: Path) -> bool:
    place, kind = "", ""
    with contextlib.suppress(OSError, psutil.Error):
        for drive in psutil.disk_partitions(all=True):
            is_around = path.resolve().is_relative_to(drive.mountpoint)
            if is_around and len(drive.mountpoint) >= len(place):
                place, kind = drive.mountpoint, drive.fstype
    return kind in _NETWORK_DRIVES
