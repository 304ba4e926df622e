"""The web server under load: how soon it answers, what it holds, how long a check takes. Prints a table.

python -m benchmarks.ui [--jobs 500] [--samples 20] [--log-mb 100] [--out benchmarks/results/ui.json]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml
from PIL import Image

from benchmarks.setting import machine
from benchmarks.ui_streams import measure_streams
from toolkit.files import write_json

ROOT = Path(__file__).resolve().parents[1]


class Server:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        started = time.monotonic()
        command = [sys.executable, "-m", "ui.server.main", "--port", "0", "--no-browser"]
        command += ["--store", str(folder / "store"), "--root", str(folder)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        address = re.search(r"(http://\S+)/#token=(\S+)", self.process.stdout.readline())
        assert address is not None
        self.url, self.token = address[1], address[2]
        # the socket is open: an answer comes when the server is there, and its list when each job has been looked at
        self._open("GET", "/healthz")
        self._open("GET", "/")
        self.page_s = time.monotonic() - started
        self.ask("GET", "/api/jobs?limit=1")
        self.startup_s = time.monotonic() - started

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """An answer of the API."""
        return json.loads(self._open(method, path, None if body is None else json.dumps(body).encode()))

    def _open(self, method: str, path: str, data: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {self.token}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return bytes(answer.read())

    @property
    def rss_mb(self) -> float:
        """What it holds."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    def end(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--samples", type=int, default=20, help="of each job")
    parser.add_argument("--log-mb", type=int, default=100, help="of one log")
    parser.add_argument("--out", type=Path, help="write the table to this JSON file, too")
    given = parser.parse_args()
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder)
        time.sleep(2)
        rows += _start(server, "empty")
        rows.append(("RSS idle, empty", f"{server.rss_mb:.0f} MB", "90 MB"))
        for count, goal in ((60, "200 ms"), (1000, "500 ms")):
            text = job(folder, count)
            first, *times = [
                _timed(functools.partial(server.ask, "POST", "/api/check", {"yaml": text})) for _ in range(21)
            ]
            rows.append((f"check of {count} pictures, first", f"{first:.2f} s", "10 s" if count == 1000 else ""))
            rows.append((f"check of {count} pictures, p95", f"{_p95(times) * 1000:.0f} ms", goal))
        server.end()
        _fill(folder, given.jobs, given.samples, given.log_mb)
        server = Server(folder)
        rows += _start(server, f"{given.jobs} jobs")
        jobs = server.ask("GET", "/api/jobs")["jobs"]
        assert len(jobs) >= given.jobs
        times = [_timed(lambda: server.ask("GET", "/api/jobs")) for _ in range(20)]
        rows.append((f"list of {given.jobs} jobs, p95", f"{_p95(times) * 1000:.0f} ms", "150 ms"))
        long = next(job["id"] for job in jobs if job["name"] == "job_0")
        rows.append(("log, first page", f"{_timed(lambda: server.ask('GET', f'/api/jobs/{long}/log')):.2f} s", ""))
        times = [_timed(lambda: server.ask("GET", f"/api/jobs/{long}/log?from=500000")) for _ in range(20)]
        rows.append(("log, any page, p95", f"{_p95(times) * 1000:.0f} ms", "150 ms"))
        rows.append(("log, search", f"{_timed(lambda: server.ask('GET', f'/api/jobs/{long}/log?q=needle')):.2f} s", ""))
        rows.append((f"RSS, {given.jobs} jobs", f"{server.rss_mb:.0f} MB", "200 MB"))
        before = psutil.Process(server.process.pid).cpu_times()
        time.sleep(10)
        after = psutil.Process(server.process.pid).cpu_times()
        busy = (after.user + after.system - before.user - before.system) / 10
        rows.append((f"a core, idle with {given.jobs} jobs", f"{busy * 100:.1f} %", ""))
        rows += _streams(server, folder)
        server.end()
    if given.out:
        table = [dict(zip(("what", "measured", "goal"), row, strict=True)) for row in rows]
        write_json(given.out, {"machine": machine(), "jobs": given.jobs, "log_mb": given.log_mb, "table": table})
    print(f"| what ({os.cpu_count()} cores) | measured | goal |\n|---|---|---|")
    print("\n".join(f"| {what} | {value} | {goal} |" for what, value, goal in rows))


def _start(server: Server, store: str) -> list[tuple[str, str, str]]:
    return [
        (f"page answers after start, {store}", f"{server.page_s:.2f} s", "2 s"),
        (f"list of jobs after start, {store}", f"{server.startup_s:.2f} s", "2 s"),
    ]


def _streams(server: Server, folder: Path) -> list[tuple[str, str, str]]:
    """Fifty pages beside a run, and what else a page asks for meanwhile."""
    job = server.ask("GET", "/api/jobs?q=job_1&limit=1")["jobs"][0]["id"]
    found = measure_streams(
        server.url,
        server.token,
        server.process.pid,
        folder / "output" / "job_1",
        lambda: _timed(lambda: server.ask("GET", f"/api/jobs/{job}")),
    )
    return [
        ("messages a second, each of 50 pages", f"{found['messages_per_s']:.1f}", ""),
        ("a core, 50 pages beside a run", f"{found['core_share'] * 100:.1f} %", "15 %"),
        ("a job, asked beside 50 pages, p95", f"{found['request_p95_s'] * 1000:.0f} ms", "150 ms"),
        ("step to page, p95", f"{found['step_to_page_p95_s'] * 1000:.0f} ms", "1 s"),
    ]


def _timed(call: Callable[[], Any]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def job(folder: Path, num_images: int) -> str:
    """The text of a job `bench` that trains the tiny model on flat pictures."""
    images = folder / f"images_{num_images}"
    images.mkdir()
    for index in range(num_images):
        Image.new("RGB", (64, 64), (index % 256, 120, 128)).save(images / f"{index}.jpg")
        (images / f"{index}.txt").write_text(f"picture {index}", encoding="utf-8")
    process = {
        "type": "sd_trainer",
        "training_folder": str(folder / "output"),
        "device": "cpu",
        "model": {"arch": "flux2_tiny", "name_or_path": "assets/flux2_tiny"},
        "network": {"type": "lora", "linear": 4},
        "datasets": [{"folder_path": str(images), "resolution": 64}],
        "train": {"steps": 100, "dtype": "fp32", "disable_sampling": True},
    }
    return yaml.safe_dump({"job": "extension", "config": {"name": "bench", "process": [process]}})


def _fill(folder: Path, num_jobs: int, num_samples: int, log_mb: int) -> None:
    """A store as it is after a year."""
    text = job(folder, 1)
    events = [{"time": 1.0, "kind": "job", "name": "x", "arch": "flux2_tiny", "steps": 1000}]
    events += [{"time": float(n), "kind": "step", "step": n, "loss": 0.5, "lr": 1e-4, "step_s": 1} for n in range(1000)]
    lines = "".join(json.dumps(event) + "\n" for event in events)
    for number in range(num_jobs):
        place = folder / "output" / f"job_{number}"
        (place / "samples").mkdir(parents=True)
        (place / "job.yaml").write_text(text.replace("name: bench", f"name: job_{number}"), encoding="utf-8")
        (place / "notes.json").write_text('{"created": 1.0}', encoding="utf-8")
        (place / "events.jsonl").write_text(lines, encoding="utf-8")
        for sample in range(num_samples):
            (place / "samples" / f"1700000000000__{sample:09d}_0.jpg").write_bytes(b"x")
    line = "step 1 of 1000000, loss 0.123456, some more words to make it as long as lines are\n"
    content = line * (log_mb * 1_000_000 // len(line)) + "the needle\n"
    (folder / "output" / "job_0" / "log.txt").write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
