"""Watches the other ranks of a run from a thread, so that if one of them ends or hangs, all end, with one message."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import UserError
from toolkit.extension import REPOSITORY
from toolkit.parallel.board import GONE, Beat, Board, Fate, Member

LOOK_EVERY_S = 0.5
SILENT_S = 40.0
"""A rank on another machine counts as gone if it has given no sign of life for this long, in seconds."""
BROKEN_S = 10.0
"""How long to look for the rank that is to blame once a connection has broken, in seconds."""
WARM_UP_S, WARM_UP_STEPS = 600.0, 2
SHORTEST_S, STEPS_LONG = 45.0, 10.0
"""A rank hangs if the others wait for it for so many seconds, and for so many usual steps."""
TIMEOUT = "RANKS_TIMEOUT_S"
_WAIT_FOR_FIRST_S = 60.0
_SPEAK_S = 3.0


@dataclass
class Wait:
    """What the main thread of this rank does, written there and read by the thread that watches.

    Attributes:
        calls: how many calls that all ranks make together it has entered.
        since: when it entered the one that it is in; None if it is in none.
        is_patient: whether that may take as long as it takes: the first rank does something for all.
        is_joint: whether it is a whole step, in which torch makes the ranks wait for each other.
        given_s: how long the others may take, if the user has said so.
        broken: what torch has said about a connection that has broken; None while all are whole.
        steps: seconds of the last steps.
    """

    calls: int = 0
    since: float | None = None
    is_patient: bool = True
    given_s: float | None = None
    is_joint: bool = False
    broken: str | None = None
    broken_at: float = 0.0
    steps: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    num_steps: int = 0
    stepped_at: float | None = None

    @contextlib.contextmanager
    def inside(self, *, is_patient: bool) -> Iterator[None]:
        """The block is a call that all ranks make together. What breaks in it ends the run, and does not return."""
        before = self.since, self.is_patient
        self.calls += 1
        self.is_patient = is_patient
        self.since = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
                raise
            self.broken_at = time.monotonic()
            self.broken = str(error)
            while True:  # the thread that watches ends the process
                time.sleep(1)
        finally:
            self.since, self.is_patient = before

    @contextlib.contextmanager
    def joint_step(self) -> Iterator[None]:
        """The block is a step in which every rank computes with what the others hold."""
        self.is_patient, self.is_joint = False, True
        self.since = time.monotonic()
        try:
            yield
        finally:
            self.since, self.is_joint = None, False

    def stepped(self) -> None:
        """A step is done."""
        now = time.monotonic()
        if self.stepped_at is not None:
            self.steps.append(now - self.stepped_at)
        self.stepped_at = now
        self.num_steps += 1

    def limit_s(self) -> float:
        """How long the others may take to reach a call that this rank waits in, in seconds."""
        if self.given_s is not None:
            return self.given_s
        if self.num_steps < WARM_UP_STEPS or not self.steps:
            return WARM_UP_S
        return max(SHORTEST_S, STEPS_LONG * statistics.median(self.steps))  # some were followed by a save


def given_timeout() -> float | None:
    """The user's RANKS_TIMEOUT_S; None if it is not set.

    Raises:
        UserError: it is not a number above 0.
    """
    text = os.environ.get(TIMEOUT)
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise UserError(f"{TIMEOUT} is {text!r} in the environment; a number of seconds is needed.")


class Guard:
    """Ends this process together with the others.

    Args:
        board: where the ranks see each other.
        members: all ranks.

    Attributes:
        wait: what the main thread does.
        last_words: called with the reason before the process ends, to write it down; returns lines for the user that
            follow it, such as how to continue.
    """

    def __init__(self, board: Board, members: Sequence[Member]) -> None:
        self.board = board
        self.wait = Wait(given_s=given_timeout())
        self.last_words: Callable[[Fate], list[str]] = lambda fate: []
        self._members = members
        self._seen: list[tuple[Beat, float]] = [(Beat(), time.monotonic())] * board.world
        self._verdict: tuple[Fate, float] | None = None
        self._has_left = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ranks")

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def leave(self) -> None:
        """Stop watching: this rank is done. The others do not miss it."""
        self._has_left.set()
        self._thread.join()
        with contextlib.suppress(RuntimeError):  # its host has left, too
            self.board.beat(self.wait.calls, GONE)

    def end(self, text: str, code: int, *, waits_s: float) -> None:
        """End the process, and all others with it. Does not return.

        Args:
            text: why, for the user.
            code: exit code.
            waits_s: for so many seconds another rank may give a better reason.
        """
        self._verdict = (Fate(text, code, self.board.rank), time.monotonic() + waits_s)
        while True:
            time.sleep(1)

    def name_of(self, rank: int) -> str:
        """The rank and its machine, for messages."""
        return f"rank {rank} ({self._members[rank].host})"

    def _run(self) -> None:
        try:
            while not self._has_left.wait(LOOK_EVERY_S):
                if (fate := self._look()) is not None:
                    self._carry_out(fate)
        except RuntimeError:  # of the store
            if not self._has_left.is_set():
                self._carry_out(self._without_store(), has_store=False)

    def _look(self) -> Fate | None:
        if (fate := self.board.fate()) is not None:
            return fate
        are_gone = [member.process.is_alive() is False for member in self._members]  # first, then whether on purpose
        self.board.beat(self.wait.calls, _place_of_main_thread())
        now, beats = time.monotonic(), self.board.beats()
        for rank, beat in enumerate(beats):
            if beat != self._seen[rank][0]:
                self._seen[rank] = (beat, now)
        present = [rank for rank, beat in enumerate(beats) if beat.place != GONE]
        for rank in present:
            if are_gone[rank]:
                return self._seal(
                    f"{self._members[rank]} has ended without a message: it was killed, or it crashed.", rank
                )
            if rank != self.board.rank and self._is_elsewhere(rank) and now - self._seen[rank][1] > SILENT_S:
                return self._seal(f"{self._members[rank]} has not responded for {SILENT_S:g} s.", rank)
        if self._verdict is not None and now >= self._verdict[1]:
            return self.board.seal(self._verdict[0])
        return self._judge_wait(now, beats, present)

    def _judge_wait(self, now: float, beats: Sequence[Beat], present: Sequence[int]) -> Fate | None:
        wait = self.wait
        if wait.broken is not None:
            if now - wait.broken_at < BROKEN_S:
                return None
            reason = wait.broken.strip().splitlines()[0] if wait.broken.strip() else "no reason given"
            return self._seal(f"{self.name_of(self.board.rank)} has lost its connection: {reason}", self.board.rank)
        since, limit = wait.since, wait.limit_s()
        if since is None or wait.is_patient or now - since <= limit:
            return None
        if wait.is_joint:
            places = "; ".join(f"{self.name_of(rank)} is at {beats[rank].place}" for rank in present)
            return self._seal(
                f"A step has taken more than {limit:.0f} s, and the ranks wait for each other: {places}. One of them "
                f"hangs, or the network does. If it only needs more time, set {TIMEOUT} to more seconds.",
                self.board.rank,
            )
        late = [rank for rank in present if beats[rank].calls < wait.calls]
        if not late:
            me = self.name_of(self.board.rank)
            return self._seal(f"{me} has waited {limit:.0f} s for an answer: the network hangs.", self.board.rank)
        return self._seal(
            f"{self._members[late[0]]} hangs: for {limit:.0f} s it has not reached the point where the others wait for "
            f"it. It is at {beats[late[0]].place}. If it only needs more time, set {TIMEOUT} to more seconds.",
            late[0],
            is_dead=False,
        )

    def _seal(self, text: str, rank: int, *, is_dead: bool = True) -> Fate:
        return self.board.seal(Fate(text, 1, rank, is_dead and rank != self.board.rank))

    def _is_elsewhere(self, rank: int) -> bool:
        return self._members[rank].process.is_alive() is None

    def _without_store(self) -> Fate:
        """The process that hosts what all share has ended: the first rank, or the launcher of the first machine."""
        if self._members[0].process.is_alive():
            return Fate(f"The launcher on {self._members[0].host} has ended.", 1, 0)
        return Fate(
            f"{self._members[0]} has ended without a message: it was killed, or it crashed.", 1, 0, is_dead=True
        )

    def _carry_out(self, fate: Fate, *, has_store: bool = True) -> None:
        """Tell the user, unless another rank does, and end this process."""
        lines: list[str] = []
        with contextlib.suppress(Exception):  # such as a full disk: the process must end
            lines = self.last_words(fate)
        with contextlib.suppress(RuntimeError):
            if self._may_speak(fate) if has_store else self._is_lowest():
                self._speak(fate, lines)
            if has_store:
                self.board.beat(self.wait.calls, GONE)
                if self.board.rank == 0:
                    self._let_the_others_read()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(fate.code)

    def _may_speak(self, fate: Fate) -> bool:
        """The first rank speaks if it can; the others wait a little for it."""
        deadline = time.monotonic() + _SPEAK_S
        is_patient = self.board.rank != 0 and not (fate.is_dead and fate.rank == 0)
        while is_patient and not self.board.has_spoken() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.board.may_speak()

    def _is_lowest(self) -> bool:
        return not any(member.process.is_alive() for member in self._members[: self.board.rank])

    def _speak(self, fate: Fate, lines: Sequence[str]) -> None:
        said = [fate.text]
        if fate.code == 1:
            said.append(f"All {self.board.world} ranks have stopped.")
            said += () if self._is_elsewhere(0) else lines  # elsewhere the folder may be another one
        stream = sys.stderr if self.board.rank == 0 else sys.__stderr__
        print("\n" + "\n".join(said), file=stream, flush=True)

    def _let_the_others_read(self) -> None:
        deadline = time.monotonic() + _SPEAK_S
        while time.monotonic() < deadline:
            beats = self.board.beats()
            if all(
                beat.place == GONE or member.process.is_alive() is False
                for beat, member in zip(beats, self._members, strict=True)
            ):
                return
            time.sleep(0.1)


def _place_of_main_thread() -> str:
    """The innermost line of this program that the main thread is at."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(REPOSITORY) and "site-packages" not in path.parts and path.parent.name != "parallel":
            return f"{path.relative_to(REPOSITORY).as_posix()}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back
    return "an unknown place"
