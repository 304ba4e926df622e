"""Starts what waits: one job for each card, the next when the former is gone and its memory plan fits what is free.

A job that splits its model over cards gets all of them, once all are free.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from toolkit.files import sha256_json
from toolkit.units import gigabytes
from ui.server.checks.checker import Checker
from ui.server.jobs.job import Job
from ui.server.jobs.registry import Registry
from ui.server.jobs.starts import token_of
from ui.server.machine import Cards, ram

PAUSED = "queue_paused"
_TICK_S = 0.5
_KEPT_PEAKS = 256
_QUEUE_PAUSED = "The queue is paused."
_CHECKING = "Working out the memory it needs. The first time for a model, this can take 15 seconds."
_SLOW_S = 1.0  # a check of files that are known takes less
_WAITS_FOR_ALL = "Waiting for all GPUs: the job splits its model over them (model.split_model_over_gpus)."
_NOT_HELD = (_QUEUE_PAUSED, _CHECKING, _WAITS_FOR_ALL)  # by what others do with the machine

log = logging.getLogger("ui.server")


class Scheduler:
    """The one that starts jobs. Of several servers over one store, only the one that holds the lock does."""

    def __init__(
        self, registry: Registry, cards: Cards, checker: Checker, program: tuple[str, ...], lock_file: Path
    ) -> None:
        self.registry = registry
        self.cards = cards
        self.checker = checker
        self.program = program
        self.lock_file = lock_file
        self.environment: Callable[[], Mapping[str, str]] = dict
        self._lock: int | None = None
        self._peaks: dict[str, tuple[list[int], int] | None] = {}
        self._kick = threading.Event()

    def kick(self) -> None:
        """Look at the queue now."""
        self._kick.set()

    def run(self, stop: threading.Event) -> None:
        """Start waiting jobs until asked to stop. Errors are logged, and the start is tried again."""
        while not stop.is_set():
            try:
                if self.holds_lock():
                    self.tick()
            except Exception:
                log.exception("starting what waits failed")
            self._kick.wait(_TICK_S)
            self._kick.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def leads(self) -> bool:
        """Whether this server has become the one that starts jobs."""
        return self._lock is not None

    def holds_lock(self) -> bool:
        """Whether this server is the one that starts jobs."""
        if self._lock is not None:
            return True
        handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                return False
        self._lock = handle
        return True

    def tick(self) -> None:
        """Start the first job of each free card, if it fits."""
        self.settle()
        if self.registry.store.fact(PAUSED) == "1":
            self._say_why({job.id: _QUEUE_PAUSED for job in self._waiting()})
            return
        slots: list[int | None] = [card.index for card in self.cards.all()] or [None]
        with self.registry.lock:
            busy = self._busy(slots)
            waiting = self._waiting()
        why: dict[str, str] = {}
        for slot in slots:
            if slot in busy:
                continue
            for place, job in enumerate(waiting):
                if job.id in why or not self._may_use(job, slot, slots):
                    continue
                cards = slots if job.settings.is_split else [slot]
                lack = _WAITS_FOR_ALL if busy and len(cards) > 1 else self._lack(job, cards)
                if lack:
                    why[job.id] = lack
                    if len(cards) > 1:
                        waiting = waiting[:place]  # or some card would always be taken by those behind it
                    break  # the first in the queue is not overtaken by a smaller one
                self._start(job, cards)
                waiting.remove(job)
                self._say_why(why)
                return  # one at a time: the next look sees what this one takes
        self._say_why(why)

    def settle(self) -> None:
        """Take out of the queue what was started when a server was killed before it could write that down."""
        with self.registry.lock:
            for job in self._waiting():
                entry, launch = job.entry, job.launch
                assert entry is not None
                has_begun = launch is not None and (launch.process is not None or job.is_live)
                is_later = (
                    token_of(launch) != entry.start if entry.start else launch.time >= entry.wished if launch else False
                )
                if has_begun and is_later:
                    self.registry.store.put(replace(entry, place=""))
                    self.registry.refresh(job)

    def _waiting(self) -> list[Job]:
        entries = self.registry.store.entries()
        found = []
        for job in self.registry.all():
            entry = entries.get(job.id)
            if entry is not None and entry.place == "queued":
                if entry != job.entry:
                    self.registry.refresh(job)
                found.append(job)
        return sorted(found, key=lambda job: job.entry.position if job.entry else 0.0)

    def _busy(self, slots: list[int | None]) -> set[int | None]:
        launched = [job for job in self.registry.all() if job.is_live and job.launch is not None]
        if slots == [None]:
            return {None for _ in launched}
        return {gpu for job in launched if job.launch is not None for gpu in job.launch.gpus or (None,)}

    def _may_use(self, job: Job, slot: int | None, slots: list[int | None]) -> bool:
        wanted = job.entry.gpu if job.entry and not job.settings.is_split else None
        return wanted is None or wanted == slot or wanted not in slots

    def _lack(self, job: Job, slots: Sequence[int | None]) -> str:
        """Why a job must wait although its cards are free; empty if it need not."""
        if job.is_live:
            return "Its previous run has not ended yet."
        try:
            text = job.text_path.read_text(encoding="utf-8")
        except (OSError, UnicodeError):
            return ""  # the trainer says better what is wrong
        key = sha256_json(text)
        if key not in self._peaks:
            while len(self._peaks) >= _KEPT_PEAKS:
                del self._peaks[next(iter(self._peaks))]
            self._peaks[key] = self._predicted(job, text)
        peaks = self._peaks[key]
        if peaks is None:
            return ""
        gpus, memory = peaks
        by_index = {card.index: card for card in self.cards.all()}
        for slot, gpu in zip(slots, gpus, strict=False):
            card = by_index.get(slot) if slot is not None else None
            if card is not None and gpu <= card.total_bytes and gpu > card.total_bytes - card.used_bytes:
                free = card.total_bytes - card.used_bytes
                return f"Waiting for memory on GPU {slot}: needs {gigabytes(gpu)} GB, {gigabytes(free)} GB free."
        total, free = ram()
        if free < memory <= total:
            return f"Waiting for RAM: needs {gigabytes(memory)} GB, {gigabytes(free)} GB free."
        return ""

    def _predicted(self, job: Job, text: str) -> tuple[list[int], int] | None:
        """What a job takes. A check that breaks down must not hold up the queue: the job itself says what is wrong."""
        slow = threading.Timer(_SLOW_S, self._say_why, [{job.id: _CHECKING}])
        slow.start()
        try:
            return self.checker.peaks(text)
        except Exception:
            log.exception("%s cannot be checked", job.folder)
            return None
        finally:
            slow.cancel()

    def _start(self, job: Job, slots: Sequence[int | None]) -> None:
        registry = self.registry
        with registry.lock:
            entry = registry.store.entry(job.id)
            registry.refresh(job)
            if entry is None or entry.place != "queued" or job.is_live or not job.folder.is_dir():
                return
            try:
                gpus = [slot for slot in slots if slot is not None]
                registry.running.start(job.folder, self.program, entry.arguments, gpus=gpus, env=self.environment())
            except BlockingIOError:
                return  # a process of its own still lives: the next look waits for it
            except OSError as error:
                registry.store.put(replace(entry, place=""))
                log.error("%s cannot be started: %s", job.folder, error)
                registry.waits[job.id] = ""
                job.trouble = f"Could not be started: {error.strerror or error}."
                registry.refresh(job)
                return
            job.trouble = ""
            registry.store.put(replace(entry, place="", arguments=(), wish="", wished=time.time()))
            registry.refresh(job)

    def _say_why(self, why: Mapping[str, str]) -> None:
        now, before = time.monotonic(), self.registry.held_since
        with self.registry.lock:
            self.registry.held_since = {id_: before.get(id_, now) for id_, text in why.items() if text not in _NOT_HELD}
            if self.registry.waits != why:
                changed = set(self.registry.waits) ^ set(why) | {
                    key for key in why if self.registry.waits.get(key) != why[key]
                }
                self.registry.waits = dict(why)
                for job in self.registry.all():
                    if job.id in changed:
                        self.registry.refresh(job)
