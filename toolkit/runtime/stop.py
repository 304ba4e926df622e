"""Stopping a run by signal: the first asks it to finish its step and save, the second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from toolkit.errors import Interrupted
from toolkit.runtime.control import PendingCommands

EXIT_CODE = 130
_FIRST = "\nStopping: the run finishes what it is doing and saves. A second Ctrl+C stops it at once, without saving.\n"
_ASKED = "\nStopping, as asked: the run finishes what it is doing and saves.\n"
_TOO_LATE = "\nThe run has not finished {grace_s:g} s after SIGTERM (save.term_grace_s): it stops without saving.\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAST_WORDS_S = 1.5


class StopRequest:
    """The flag that a run polls between steps. Only `listen` touches the process's signal handlers.

    Args:
        announces: whether to tell the user that a signal has come. Several processes keep silent: their launcher stops
            them by signal also after one of them has failed, which is what the user should read.

    Attributes:
        grace_s: seconds that the run may take to stop after SIGTERM; None: as long as it needs.
        commands: what else the user has asked of the run.
    """

    def __init__(self, *, announces: bool = True) -> None:
        self.announces = announces
        self.grace_s: float | None = None
        self.commands = PendingCommands()
        self._requested = False
        self._has_nothing_to_save = False
        self._is_waking = False
        self._signals: socket.socket | None = None

    @property
    def requested(self) -> bool:
        """Whether the run has been asked to stop."""
        return self._requested

    def request(self) -> None:
        """Ask the run to stop after its step.

        Raises:
            KeyboardInterrupt: the run has been asked before, or has nothing to save.
        """
        is_second, self._requested = self._requested, True
        if is_second or self._has_nothing_to_save:
            raise KeyboardInterrupt

    def ask(self) -> None:
        """Ask the run to stop as a first signal does, from any thread. To ask again changes nothing."""
        if self._requested:
            return
        self._requested = True
        _say(_ASKED)
        if self._signals is None:  # the next poll will see it
            return
        if self._has_nothing_to_save:
            self._is_waking = True
            _interrupt_main_thread()
        else:
            with contextlib.suppress(OSError):
                self._signals.send(bytes([signal.SIGINT]))  # `_watch` counts: the next signal is the second

    @contextlib.contextmanager
    def ends_at_once(self, reason: str) -> Iterator[None]:
        """Let a signal end the block at once, because the run has nothing to save in it.

        Raises:
            Interrupted: with `reason`, if a signal comes in the block or came before it.
        """
        self._has_nothing_to_save = True  # first: another thread may ask just now
        try:
            if self._requested:
                raise Interrupted(reason)
            yield
        except KeyboardInterrupt:
            raise Interrupted(reason) from None
        finally:
            self._has_nothing_to_save = False

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into requests while the block runs. Only the main thread may do this.

        A second signal, or the end of the grace period, ends the process even inside a call that Python cannot
        interrupt. This damages no file, since all files are written atomically.
        """
        before = [signal.signal(number, self._handle) for number in _SIGNALS]
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._signals = writer
        threading.Thread(target=self._watch, args=(reader,), daemon=True, name="stop").start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            self._signals = None
            writer.close()  # ends the thread
            for number, handler in zip(_SIGNALS, before, strict=True):
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_waking:  # not a signal of the user's
            self._is_waking = False
            if not self._has_nothing_to_save:
                return
        elif not self._requested and not self._has_nothing_to_save:
            self._announce(_FIRST)
        self.request()

    def _watch(self, reader: socket.socket) -> None:
        """Make sure that the process ends. The system writes each signal's number to the other end of `reader`."""
        count, deadline = 0, None
        with reader:
            while True:
                reader.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
                try:
                    numbers = reader.recv(1)
                except TimeoutError:
                    if count < 2:  # the grace period is over: act like a second signal, then wait no longer
                        self._announce(_TOO_LATE.format(grace_s=self.grace_s))
                        signal.raise_signal(signal.SIGTERM)
                        continue
                    os._exit(EXIT_CODE)
                if not numbers:
                    return
                if numbers[0] not in _SIGNALS:
                    continue
                count += 1
                if count >= 2:
                    deadline = time.monotonic() + _LAST_WORDS_S
                elif numbers[0] == signal.SIGTERM and self.grace_s is not None:
                    deadline = time.monotonic() + self.grace_s

    def _announce(self, text: str) -> None:
        if self.announces:
            _say(text)


def _interrupt_main_thread() -> None:
    """Let the main thread handle a signal, also while it waits in a call of the system."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        identity = threading.main_thread().ident
        assert identity is not None, "the main thread runs"
        signal.pthread_kill(identity, signal.SIGINT)


def _say(text: str) -> None:
    # print() is not reentrant, and the signal may have come in the middle of one
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
