from __future__ import annotations

import pytest

from jobs.in_a_row import exit_code
from jobs.job import JobResult, Status
from toolkit.runtime.stop import StopRequest


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["done"], 0),
        (["done", "done"], 0),
        (["failed"], 1),
        (["done", "failed", "not started"], 1),
        (["refused", "failed"], 1),
        (["refused"], 2),
        (["refused", "done"], 2),
        (["done", "interrupted", "not started"], 130),
        (["failed", "interrupted"], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_ending(statuses: list[Status], code: int) -> None:
    results = [JobResult("job", status, 1.0, ()) for status in statuses]
    assert exit_code(results, StopRequest()) == code


def test_jobs_not_started_because_of_a_request_to_stop_are_an_interruption() -> None:
    stop = StopRequest()
    stop.request()
    assert exit_code([JobResult("job", "done", 1.0, ()), JobResult("next", "not started", 0.0, ())], stop) == 130
