"""What an open page costs a machine that trains, counted: requests, bytes, reads and processor time.

python -m benchmarks.ui_page [--duration-s 60] [--step-s 0.25] [--out benchmarks/results/ui.json]

The run is scripted, so that the figures are those of the server and not of the training beside it. What a page costs a
training step is too little to be timed on a busy machine (`benchmarks.ui_step`): this is the most that it can take.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.ui import ROOT, Server, job
from toolkit.files import write_json

_SCRIPTED = ROOT / "tests" / "ui" / "scripted_run.py"
_SETTLE_S = 5.0


def main() -> None:
    """Measure without a page, with one that is shown, and with one in a hidden tab."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--step-s", type=float, default=0.25, help="seconds that a step of the run takes")
    parser.add_argument("--out", type=Path, help="a table of benchmarks.ui, which gets these rows")
    given = parser.parse_args()
    os.environ["FLUX2_TRAINER_TEST_PROGRAM"] = str(_SCRIPTED)
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        try:
            id_ = _train(server, Path(name), given.step_s)
            for what, page in (("no page", None), ("a page", "shown"), ("a hidden tab", "hidden")):
                with _page(server, id_, page) as asked:
                    time.sleep(_SETTLE_S)
                    figures = _count(server, asked, given.duration_s)
                rows.append((f"a run, {what}, per minute", figures, ""))
                print("| " + " | ".join(rows[-1]) + " |", flush=True)
            server.ask("POST", f"/api/jobs/{id_}/kill", {})
        finally:
            server.end()
    if given.out:
        found: dict[str, Any] = json.loads(given.out.read_text(encoding="utf-8"))
        table = [row for row in found["table"] if not row["what"].startswith("a run, ")]
        table += [dict(zip(("what", "measured", "goal"), row, strict=True)) for row in rows]
        write_json(given.out, found | {"table": table})


def _train(server: Server, folder: Path, step_s: float) -> str:
    """Start a run that goes on for hours. Returns its id."""
    tree = yaml.safe_load(job(folder, 8)) | {"meta": {"scripted": {"step_s": step_s}}}
    tree["config"]["process"][0]["train"]["steps"] = 1_000_000
    id_ = str(server.ask("POST", "/api/jobs", {"yaml": yaml.safe_dump(tree), "start": True})["id"])
    until = time.monotonic() + 60
    while server.ask("GET", f"/api/jobs/{id_}")["state"] != "training":
        assert time.monotonic() < until, "the run does not come to its first step"
        time.sleep(0.5)
    return id_


def _count(server: Server, asked: subprocess.Popen[str] | None, duration_s: float) -> str:
    """What the server and the page do in this time, for a minute."""
    process = psutil.Process(server.process.pid)
    pages = [_traffic(asked)]
    cpu, browser, reads = [_cpu_s(process)], [_browser_s(asked)], [process.io_counters()]
    begin = time.monotonic()
    time.sleep(duration_s)
    minutes = (time.monotonic() - begin) / 60
    cpu.append(_cpu_s(process))
    browser.append(_browser_s(asked))
    reads.append(process.io_counters())
    pages.append(_traffic(asked))
    num_reads, read_bytes = (getattr(reads[1], key) - getattr(reads[0], key) for key in ("read_count", "read_chars"))
    requests, received = (last - first for first, last in zip(*pages, strict=True))
    return (
        f"server {(cpu[1] - cpu[0]) / minutes:.2f} s of a core, {num_reads / minutes:.0f} reads, "
        f"{read_bytes / minutes / 1000:.0f} kB; "
        f"page {(browser[1] - browser[0]) / minutes:.1f} s of a core, {requests / minutes:.0f} requests, "
        f"{received / minutes / 1000:.0f} kB"
    )


def _traffic(page: subprocess.Popen[str] | None) -> tuple[int, int]:
    """Requests that a page has sent, and bytes that it has got."""
    if page is None:
        return 0, 0
    assert page.stdin is not None and page.stdout is not None
    page.stdin.write("count\n")
    page.stdin.flush()
    found = json.loads(page.stdout.readline())
    return found["requests"], found["bytes"]


def _browser_s(page: subprocess.Popen[str] | None) -> float:
    """Processor time of a page's browser."""
    return 0.0 if page is None else sum(map(_cpu_s, psutil.Process(page.pid).children(recursive=True)))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _page(server: Server, id_: str, what: str | None) -> Iterator[subprocess.Popen[str] | None]:
    """The page of a job in a browser, for the length of the block; `what` is `shown` or `hidden`."""
    if what is None:
        yield None
        return
    command = ["node", "benchmarks/ui_open.mjs", f"{server.url}/#token={server.token}", f"/jobs/{id_}", what]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as browser:
        assert browser.stdin is not None and browser.stdout is not None
        assert browser.stdout.readline().strip() == "open", "the browser does not show the page"
        yield browser
        browser.stdin.close()


if __name__ == "__main__":
    main()
