"""What a bad input must come to: a correct result or one clear error, in bounded time, never a traceback."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from toolkit.errors import UserError

T = TypeVar("T")
CPU_LIMIT_S = 2.0
HANGS_AFTER_S = 30  # of the clock, which on a busy machine runs ahead of the processor
COUNTS: Counter[tuple[str, str]] = Counter()  # (kind, outcome) of every input tried


def attempt(kind: str, action: Callable[[], T], *, cpu_limit_s: float = CPU_LIMIT_S) -> T | UserError:
    """What the trainer makes of one input: a result, or its error. Any other exception fails the test.

    Args:
        kind: of input, for the table.
        action: reads the input.
        cpu_limit_s: processor time that it may take.
    """
    started = time.process_time()
    try:
        with _hang_is_an_error():
            outcome: T | UserError = action()
    except UserError as error:
        outcome = error
    taken = time.process_time() - started
    assert taken < cpu_limit_s, f"took {taken:.1f} s of processor time"
    COUNTS[kind, "clear error" if isinstance(outcome, UserError) else "correct result"] += 1
    return outcome


def expect_error(kind: str, action: Callable[[], object], *words: str, cpu_limit_s: float = CPU_LIMIT_S) -> str:
    """The text of the error that an input must come to; it holds all `words`: the file, the reason, the remedy."""
    outcome = attempt(kind, action, cpu_limit_s=cpu_limit_s)
    assert isinstance(outcome, UserError), f"accepted: {outcome!r:.200}"
    text = str(outcome)
    assert all(word in text for word in words), f"{words} are not all in: {text:.600}"
    assert len(text) < 20_000, f"an error of {len(text)} characters"
    return text


def expect_result(kind: str, action: Callable[[], T], *, cpu_limit_s: float = CPU_LIMIT_S) -> T:
    """The result of an input that must be accepted."""
    outcome = attempt(kind, action, cpu_limit_s=cpu_limit_s)
    if isinstance(outcome, UserError):
        raise AssertionError(f"refused: {outcome}") from outcome
    return outcome


def expect_exit(kind: str, action: Callable[[], int], *, cpu_limit_s: float = CPU_LIMIT_S) -> int:
    """The exit code of a command that must raise nothing; one above 0 counts as an error, whose text is on stderr."""
    code = expect_result(kind, action, cpu_limit_s=cpu_limit_s)
    if code:
        COUNTS.subtract([(kind, "correct result")])
        COUNTS.update([(kind, "clear error")])
    return code


def table() -> str:
    """Inputs tried and their outcomes, a line for each kind."""
    kinds = sorted({kind for kind, _ in COUNTS})
    rows = [("inputs", "tried", "correct result", "clear error")]
    for kind in kinds:
        right, refused = COUNTS[kind, "correct result"], COUNTS[kind, "clear error"]
        rows.append((kind, str(right + refused), str(right), str(refused)))
    sums = [sum(int(row[column]) for row in rows[1:]) for column in (1, 2, 3)]
    rows.append(("all", str(sums[0]), str(sums[1]), str(sums[2])))
    return "\n".join(f"{row[0]:<34}{row[1]:>8}{row[2]:>17}{row[3]:>14}" for row in rows)


def fingerprint(folder: Path) -> str:
    """Hash of everything below a folder: names, kinds, links, and the bytes and times of files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=os.fsencode):
        digest.update(os.fsencode(path) + str(path.lstat().st_mode).encode())
        if path.is_symlink():
            digest.update(os.fsencode(path.readlink()))
        elif path.is_file():
            digest.update(path.read_bytes() + str(path.stat().st_mtime_ns).encode())
    return digest.hexdigest()


@contextmanager
def _hang_is_an_error() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"did not answer within {HANGS_AFTER_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS_AFTER_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
