"""This machine now, with the job on each of its cards."""

from __future__ import annotations

from pathlib import Path

from toolkit.cards import read_cards
from toolkit.config.reading.installed import read_processes
from toolkit.version import VERSION
from ui.server.jobs.job import Job
from ui.server.jobs.registry import Registry
from ui.server.machine import Cards, cpu_load, disks, hostname, ram
from ui.server.schemas import GpuInfo, Machine
from ui.server.web.dist import is_stale


def machine_now(registry: Registry, cards: Cards, dist: Path) -> Machine:
    """The state of this machine.

    Args:
        registry: its jobs.
        cards: its cards.
        dist: the built front end.
    """
    running = [job for job in registry.all() if job.is_live and job.launch is not None]
    live = {gpu: job for job in running if job.launch is not None for gpu in job.launch.gpus}
    total, free = ram()
    return Machine(
        version=VERSION,
        hostname=hostname(),
        gpus=[_with_job(card, live.get(card.index)) for card in cards.all()],
        cpu_load=cpu_load(),
        ram_bytes=total,
        free_ram_bytes=free,
        disks=disks(registry.roots.folders),
        roots=[str(root) for root in registry.roots.folders],
        broken_extensions=sorted(map(str, {*read_processes().broken, *read_cards().broken})),
        dist_is_stale=is_stale(dist),
    )


def _with_job(card: GpuInfo, job: Job | None) -> GpuInfo:
    if job is None:
        return card
    held = job.summary.gpu_bytes
    # both figures are some seconds old: the job cannot hold more than is in use
    return card.model_copy(update={"job_id": job.id, "job_bytes": None if held is None else min(held, card.used_bytes)})
