"""Jobs that run one after another, and how all of them ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from jobs.job import Job, JobResult
from toolkit.output.run_record import EXIT_CODES
from toolkit.runtime.stop import StopRequest


def run_jobs(jobs: Sequence[Job], stop: StopRequest, *, recover: bool) -> list[JobResult]:
    """Run jobs in order until one fails, or all of them with `recover`. A request to stop ends the whole queue."""
    results: list[JobResult] = []
    for job in jobs:
        ended = bool(results) and results[-1].status != "done" and not recover
        if ended or stop.requested:
            results.append(JobResult(job.config.name, "not started", 0.0, job.folders))
            continue
        started = time.monotonic()
        try:
            results.append(job.run(stop))
        except KeyboardInterrupt as stopped:
            text = "Stopped at once. Nothing was saved since the last checkpoint."
            job.ranks.end_all(text, EXIT_CODES["interrupted"], is_effect=True, is_common=True)
            print(f"\n{text}", file=sys.stderr)
            print("\n".join(job.resume_hint(stopped)), file=sys.stderr)
            results.append(JobResult(job.config.name, "interrupted", time.monotonic() - started, job.folders))
    return results


def exit_code(results: Sequence[JobResult], stop: StopRequest) -> int:
    """0: all done; 1: one failed; 2: one was refused before anything was loaded; 130: stopped on request."""
    statuses = {result.status for result in results}
    if "failed" in statuses:
        return 1
    if "refused" in statuses:
        return 2
    return 130 if "interrupted" in statuses or stop.requested else 0
