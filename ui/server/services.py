"""What lives as long as the server does, made once and handed to the routes."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from ui.server.actions import Actions, TrashBin
from ui.server.checks.checker import Checker
from ui.server.checks.planning import Planner
from ui.server.datasets.doctor import Doctors
from ui.server.datasets.library import Library
from ui.server.jobs.registry import Registry
from ui.server.jobs.scheduler import Scheduler
from ui.server.jobs.text import TextFolder
from ui.server.machine import Cards
from ui.server.notices.notifier import Notifier
from ui.server.options import Options
from ui.server.roots import Roots
from ui.server.schemas import Message
from ui.server.settings import SettingsFile
from ui.server.store import Store
from ui.server.stream import Hub
from ui.server.tryout.loras import Loras
from ui.server.views import SeenSteps, Thumbs
from ui.server.views.machine import machine_now
from ui.server.views.metrics import close_curves

_MACHINE_S = 3.0
_TRASH_S = 6 * 3600.0

log = logging.getLogger("ui.server")


@dataclass(frozen=True)
class Services:
    """What the routes work with."""

    options: Options
    roots: Roots
    store: Store
    hub: Hub
    cards: Cards
    registry: Registry
    checker: Checker
    scheduler: Scheduler
    planner: Planner
    actions: Actions
    trash: TrashBin
    settings: SettingsFile
    notifier: Notifier
    thumbs: Thumbs
    library: Library
    doctors: Doctors
    loras: Loras
    seen: SeenSteps


def make_services(options: Options) -> Services:
    """Everything, put together; nothing is opened yet."""
    roots, hub, cards = Roots(options.roots), Hub(), Cards()
    store = Store(options.store / "index.sqlite")
    registry = Registry(roots, store, hub, poll_s=options.poll_s)
    texts = TextFolder(options.store / "texts")
    checker = Checker(texts)
    scheduler = Scheduler(registry, cards, checker, options.program, options.store / "scheduler.lock")
    settings = SettingsFile(options.store, roots)
    scheduler.environment = settings.environment
    planner = Planner(registry, checker)
    actions = Actions(registry, texts, scheduler.kick)
    library = Library(registry)
    return Services(
        options=options,
        roots=roots,
        store=store,
        hub=hub,
        cards=cards,
        registry=registry,
        checker=checker,
        scheduler=scheduler,
        planner=planner,
        actions=actions,
        trash=TrashBin(registry),
        settings=settings,
        notifier=Notifier(registry, settings, lambda: scheduler.leads),
        thumbs=Thumbs(options.store),
        library=library,
        doctors=Doctors(options.store, library),
        loras=Loras(registry),
        seen=SeenSteps(roots),
    )


class Life:
    """The threads of a server."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._machine_sent = 0.0

    def begin(self) -> None:
        """Open the index, and begin to watch."""
        services = self.services
        services.store.open(is_new=services.options.is_reindexed)
        watch = threading.Thread(
            target=services.registry.run,
            args=(self._stop,),
            kwargs={"also": self._tell_machine},
            name="watch",
            daemon=True,
        )
        self._threads = [watch]
        if services.options.has_scheduler:
            self._threads.append(
                threading.Thread(target=services.scheduler.run, args=(self._stop,), name="schedule", daemon=True)
            )
            self._threads.append(threading.Thread(target=self._remove_old, name="trash", daemon=True))
            self._threads.append(
                threading.Thread(target=services.notifier.run, args=(self._stop,), name="notify", daemon=True)
            )
        self._threads.append(
            threading.Thread(target=services.planner.run, args=(self._stop,), name="plan", daemon=True)
        )
        self._threads[0].start()
        services.registry.has_begun.wait()
        for thread in self._threads[1:]:
            thread.start()

    def end(self) -> None:
        """Stop watching. Jobs live on."""
        self._stop.set()
        self.services.scheduler.kick()
        self.services.hub.close()
        for thread in self._threads:
            thread.join(timeout=5)
        self.services.registry.close()
        close_curves()
        self.services.checker.close()
        self.services.doctors.close()
        self.services.store.close()

    def _remove_old(self) -> None:
        """Delete now and then what has been in the trash for long."""
        while True:
            try:
                self.services.trash.remove_old()
            except Exception:
                log.exception("the trash cannot be emptied")
            if self._stop.wait(_TRASH_S):
                return

    def _tell_machine(self) -> None:
        """Send the state of this machine to open pages at intervals; without one, the driver is not queried."""
        now = time.monotonic()
        if self.services.hub.num_readers and now - self._machine_sent >= _MACHINE_S:
            self._machine_sent = now
            here = self.services
            machine = machine_now(here.registry, here.cards, here.options.dist)
            here.hub.publish("machine", Message(kind="machine", machine=machine))


def services_of(request: Request) -> Services:
    """The services that the app was made with."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


Here = Annotated[Services, Depends(services_of)]
