"""What the simple page does with jobs: check, start, stop, look. The queue is that of the web UI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.units import duration
from ui.server.jobs.files import file_id, find_file, sample_files
from ui.server.jobs.job import Job
from ui.server.refusal import Refusal
from ui.server.routes.job_check import report
from ui.server.schemas import CheckReport, CheckRequest, JobDetail, JobRequest
from ui.server.services import Services
from ui.server.views.detail import detail_of
from ui.server.views.log import log_page

_LOG_LINES = 15
_MOST_SAMPLES = 24
LIVE = ("starting", "checking", "encoding", "loading", "training", "sampling", "saving", "stopping")


@dataclass(frozen=True)
class View:
    """One job as the page shows it.

    Attributes:
        detail: what is known of it.
        log: the last lines of its log.
        samples: files of its newest sample images, newest first, each with its caption.
    """

    detail: JobDetail
    log: str
    samples: tuple[tuple[Path, str], ...]


class Desk:
    """Does what the page asks for.

    Attributes:
        services: those of the web server, over the same store.
        datasets: the folder that holds a folder of dropped images for each job.
        output: the folder of all output folders.
    """

    def __init__(self, services: Services, datasets: Path, output: Path) -> None:
        self.services = services
        self.datasets = datasets
        self.output = output

    def check(self, text: str) -> CheckReport:
        """All that can be said about a job before it starts."""
        return report(self.services, CheckRequest(yaml=text))

    def start(self, text: str) -> str:
        """Put a new job into the queue. Returns its id.

        Raises:
            Refusal: a job of this name exists, or the text names a path outside the roots.
        """
        return self.services.actions.make(JobRequest(yaml=text, start=True)).id

    def stop(self, job_id: str) -> None:
        """Let a run save and end, or take a waiting job out of the queue.

        Raises:
            Refusal: there is nothing to stop.
        """
        self.services.actions.stop(self.services.registry.get(job_id))

    def jobs(self) -> list[tuple[str, str]]:
        """Every job, newest first: what to call it, and its id."""
        return [(f"{row.name} ({row.state})", row.id) for row in self.services.registry.rows()]

    def look(self, job_id: str) -> View:
        """One job.

        Raises:
            Refusal: there is none of this id.
        """
        registry = self.services.registry
        job = registry.get(job_id)
        page = log_page(job, None, _LOG_LINES, "")
        newest = [found for found in sample_files(job)[-_MOST_SAMPLES:][::-1] if _is_own(job, found.path)]
        samples = tuple((found.path, f"step {found.step:,}, prompt {found.index + 1}") for found in newest)
        return View(detail_of(job, registry.row(job)), "\n".join(page.lines), samples)


def _is_own(job: Job, path: Path) -> bool:
    """False for a link that leads out of the folder of its job."""
    try:
        find_file(job, file_id(job, path))
    except Refusal:
        return False
    return True


def describe(view: View) -> str:
    """The state of a job in a few lines of Markdown-free text."""
    detail, lines = view.detail, [f"{view.detail.state}: {view.detail.reason}"]
    progress = detail.progress
    if progress is not None and detail.state in LIVE:
        parts = [f"step {progress.step:,} of {progress.total_steps:,}"]
        if progress.total:
            parts.append(f"{progress.phase}: {progress.done or 0:,} of {progress.total:,}")
            if progress.phase_left_s is not None:
                parts.append(f"{duration(progress.phase_left_s)} left")
        if progress.loss is not None:
            parts.append(f"loss {progress.loss:.4f}")
        if progress.step_s:
            parts.append(f"{progress.step_s:.2f} s/it")
        if progress.eta_s is not None:
            parts.append(f"{duration(progress.eta_s)} left")
        lines.append(", ".join(parts))
    if detail.failure is not None:
        lines += [detail.failure.message, *(f"{it.where}: {it.what}" for it in detail.failure.problems)]
        lines.append(detail.failure.remedy)
    return "\n".join(lines)


def describe_check(report_: CheckReport) -> str:
    """A check in lines of text: mistakes first, then the plan, time, and what would make the job fit."""
    lines = [
        f"{problem.severity}: {f'{problem.where}: ' if problem.where else ''}{problem.what}"
        for problem in report_.problems
    ]
    lines += report_.lines
    if report_.gate:
        lines.append(report_.gate)
    if report_.estimate is not None:
        low, high = duration(report_.estimate.low_s), duration(report_.estimate.high_s)
        lines.append(f"time: {low} to {high} ({report_.estimate.basis})")
    return "\n".join(lines) or "Nothing to say."
