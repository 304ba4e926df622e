"""How much an open page slows a training step: the tiny model's real training, watched and not watched in turn.

python -m benchmarks.ui_step [--pairs 8] [--block-s 15] [--out benchmarks/results/ui.json]

One run trains on; a page is opened and closed beside it, again and again. Each block with a page is held against those
before and after it, so that what else happens on the machine, if it comes slowly, counts for both. On a machine that
others use, the time of a step says little; the processor time of a step, and of the server, says more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.ui import ROOT, Server, job
from benchmarks.ui_streams import Pages
from toolkit.files import write_json
from toolkit.output.events import read_events
from ui.server.jobs.launch import read_launch

_SETTLE_S = 2.0


def main() -> None:
    """Measure, print, and put the rows into the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--block-s", type=float, default=15.0)
    parser.add_argument("--out", type=Path, help="a table of benchmarks.ui, which gets these rows")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name, training(Path(name)) as (server, id_, output):
        for what, page in (
            ("a step, page open in a browser of another machine", lambda: Pages(server.url, server.token, 1).open()),
            ("a step, page open in Chromium on the same cores", lambda: chromium(server, id_)),
        ):
            blocks = measure(output, server, page, given.pairs, given.block_s)
            rows.append((f"{what}: its time", _compared([it.step_s for it in blocks]), "1 %"))
            rows.append((f"{what}: its processor time", _compared([it.step_cpu_s for it in blocks]), "1 %"))
            shares = [statistics.median(it.server_share for it in blocks[start::2]) for start in (1, 0)]
            words = " %, without a page ".join(f"{share * 100:.1f}" for share in shares)
            rows.append((f"{what}: the server, of a core", f"{words} %", ""))
    print("\n".join(f"| {what} | {value} | {goal} |" for what, value, goal in rows))
    if given.out:
        found: dict[str, Any] = json.loads(given.out.read_text(encoding="utf-8"))
        table = [row for row in found["table"] if not row["what"].startswith("a step, ")]
        table += [dict(zip(("what", "measured", "goal"), row, strict=True)) for row in rows]
        write_json(given.out, found | {"table": table})


@contextmanager
def training(folder: Path) -> Iterator[tuple[Server, str, Path]]:
    """A server, the id of a job that trains for the length of the block, and its output folder."""
    server = Server(folder)
    try:
        tree = yaml.safe_load(job(folder, 8))
        tree["config"]["process"][0]["train"] |= {"steps": 1_000_000, "batch_size": 1}
        id_ = server.ask("POST", "/api/jobs", {"yaml": yaml.safe_dump(tree), "start": True})["id"]
        until = time.monotonic() + 180
        while server.ask("GET", f"/api/jobs/{id_}")["state"] != "training":
            assert time.monotonic() < until, "the run does not come to its first step"
            time.sleep(0.5)
        time.sleep(5)
        try:
            yield server, id_, folder / "output" / "bench"
        finally:
            server.ask("POST", f"/api/jobs/{id_}/kill", {})
            while server.ask("GET", f"/api/jobs/{id_}")["state"] in ("training", "stopping"):
                time.sleep(0.2)
    finally:
        server.end()


@dataclass(frozen=True)
class Block:
    """Some seconds of the run.

    Attributes:
        step_s: mean time of a step.
        step_cpu_s: processor time of the run for a step.
        server_share: share of a core that the server took.
    """

    step_s: float
    step_cpu_s: float
    server_share: float


def measure(output: Path, server: Server, page: Callable[[], Any], pairs: int, block_s: float) -> list[Block]:
    """Blocks without and with a page in turn, the first and the last without."""
    launch = read_launch(output)
    assert launch is not None and launch.process is not None
    run, host = psutil.Process(launch.process.pid), psutil.Process(server.process.pid)
    blocks = [block(output, run, host, block_s)]
    for _ in range(pairs):
        with page():
            time.sleep(_SETTLE_S)
            blocks.append(block(output, run, host, block_s))
        time.sleep(_SETTLE_S)
        blocks.append(block(output, run, host, block_s))
    return blocks


def block(output: Path, run: psutil.Process, host: psutil.Process, duration_s: float) -> Block:
    """Let the run go on for a while."""
    begin, run_before, host_before = time.time(), _cpu_s(run), _cpu_s(host)
    time.sleep(duration_s)
    end, run_after, host_after = time.time(), _cpu_s(run), _cpu_s(host)
    events = read_events(output / "events.jsonl")
    times = [it["step_s"] for it in events if it["kind"] == "step" and begin <= it["time"] < end]
    return Block(
        statistics.fmean(times), (run_after - run_before) / len(times), (host_after - host_before) / (end - begin)
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _compared(times: list[float]) -> str:
    """By which share the blocks with a page took longer than those around them."""
    slower = [times[at] / statistics.fmean((times[at - 1], times[at + 1])) - 1 for at in range(1, len(times), 2)]
    low, middle, high = (share * 100 for share in statistics.quantiles(slower, n=4))
    usual = statistics.median(times[::2]) * 1000
    return f"{middle:+.1f} % of {usual:.0f} ms (quartiles {low:+.1f} to {high:+.1f}, {len(slower)} pairs)"


@contextmanager
def chromium(server: Server, id_: str) -> Iterator[None]:
    """The page of a job in a browser."""
    address = f"{server.url}/#token={server.token}"
    command = ["node", "benchmarks/ui_open.mjs", address, f"/jobs/{id_}"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ) as browser:
        assert browser.stdin is not None and browser.stdout is not None
        assert browser.stdout.readline().strip() == b"open", "the browser does not show the page"
        yield
        browser.stdin.close()


if __name__ == "__main__":
    main()
