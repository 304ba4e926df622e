"""Watches the jobs and the drives, and notifies pages and the webhook once of what people should know."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ui.server.jobs.job import Job
from ui.server.jobs.registry import Registry
from ui.server.machine import disks
from ui.server.notices.occasions import ENOUGH_BYTES, HELD_S, LOW_BYTES, notice_of, notice_of_disk, notice_of_held
from ui.server.notices.outbox import FRESH_S, Outbox
from ui.server.notices.webhook import send
from ui.server.refusal import Refusal
from ui.server.schemas import Message, Notice, WebhookAnswer
from ui.server.settings import SettingsFile
from ui.server.stream import Hub

_SINCE = "notices.since"
_LOOK_S = 1.0
_STEADY_S = 1.0  # a run that is just ending may look killed
_DISKS_S = 60.0

log = logging.getLogger("ui.server")


class Notifier:
    """Sends notices. Of several servers over one store, only the one that starts jobs does.

    Attributes:
        leads: says whether this server is that one.
    """

    def __init__(self, registry: Registry, settings: SettingsFile, leads: Callable[[], bool]) -> None:
        self.registry = registry
        self.settings = settings
        self.leads = leads
        self.outbox = Outbox(registry.store)
        self._seen: dict[str, tuple[str, float]] = {}
        self._settled: dict[str, int] = {}
        self._disks_at = 0.0

    @property
    def hub(self) -> Hub:
        """What brings messages to pages."""
        return self.registry.hub

    def run(self, stop: threading.Event) -> None:
        """Watch until asked to stop. Errors are logged: no job fails because nobody could be told of it."""
        while not stop.wait(_LOOK_S):
            try:
                if self.leads():
                    self.look()
            except Exception:
                log.exception("sending notices failed")

    def look(self) -> None:
        """Make notices of what is new, then send what is due."""
        store = self.registry.store
        since = store.fact(_SINCE)
        if not since:  # what ended before anybody could be told is no news
            since = repr(time.time())
            store.set_fact(_SINCE, since)
        oldest = max(float(since), time.time() - FRESH_S)
        for job in self.registry.all():
            self._look_at(job, oldest)
        self._look_at_held()
        self._look_at_disks()
        self.outbox.deliver(self.settings.webhook, self._say_failed)

    def test(self) -> WebhookAnswer:
        """Send a message to the webhook now.

        Raises:
            Refusal: none is set.
        """
        webhook = self.settings.webhook()
        if webhook is None:
            raise Refusal(409, "No webhook address is set. Enter one and save it first.", "webhook_url")
        notice = Notice(
            id="test",
            occasion="done",
            job_id=None,
            title="A test of the trainer's webhook",
            text="If you can read this, this is where notices will arrive.",
            time=time.time(),
        )
        reply = send(webhook, notice)
        if reply.is_accepted:
            self.outbox.problem = None
        return WebhookAnswer(is_accepted=reply.is_accepted, said=reply.said)

    def _look_at(self, job: Job, oldest: float) -> None:
        if self._settled.get(job.id) == job.version:
            return  # of hundreds of jobs few change
        with self.registry.lock:
            notice, version = notice_of(job), job.version
        if notice is None or notice.time < oldest:
            self._seen.pop(job.id, None)
            self._settled[job.id] = version
            return
        now = time.monotonic()
        id_, first = self._seen.setdefault(job.id, (notice.id, now))
        if id_ != notice.id:
            self._seen[job.id] = notice.id, now
        elif now - first >= _STEADY_S:
            self._notify(job.id, notice)
            self._settled[job.id] = version

    def _look_at_held(self) -> None:
        now = time.monotonic()
        for id_, since in self.registry.held_since.items():
            job = self.registry.find(id_) if now - since >= HELD_S else None
            if job is not None and job.waits:
                self._notify(f"held {id_}", notice_of_held(job, now - since))

    def _look_at_disks(self) -> None:
        now = time.monotonic()
        if self._disks_at and now - self._disks_at < _DISKS_S:
            return
        self._disks_at = now
        is_at_work = any(job.is_live for job in self.registry.all())
        for disk in disks(self.registry.roots.folders):
            if is_at_work and disk.free_bytes < LOW_BYTES:
                self._notify(f"disk {disk.root}", notice_of_disk(disk))
            elif disk.free_bytes > ENOUGH_BYTES:
                self.outbox.forget(f"disk {disk.root}")

    def _notify(self, subject: str, notice: Notice) -> None:
        is_sent = notice.occasion in self.settings.read().webhook_on
        if self.outbox.add(subject, notice, is_sent=is_sent):
            self.hub.publish("notices", Message(kind="notice", notice=notice))

    def _say_failed(self, reason: str) -> None:
        """Pages are notified once that the webhook does not work, until it has worked again."""
        log.warning("the webhook could not be delivered: %s", reason)
        notice = Notice(
            id=f"webhook {time.time_ns()}",
            occasion="needs",
            job_id=None,
            title="The webhook could not be delivered",
            text=reason,
            time=time.time(),
        )
        self.outbox.add("webhook", notice, is_sent=False)
        self.hub.publish("notices", Message(kind="notice", notice=notice))
