"""How much an open page slows a training step: the tiny model's real training, watched and not watched in turn.

python -m benchmarks.ui_step [--pairs 8] [--block-s 15] [--out benchmarks/results/ui.json]

One run trains on; a page is opened and closed beside it, again and again. Each block with a page is held against those
before and after it, so that what else happens on the machine, if it comes slowly, counts for both.
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
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ui import ROOT, Server, job
from benchmarks.ui_streams import Pages
from toolkit.files import write_json
from toolkit.output.events import read_events

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
            slower, step_s = measure(output, page, given.pairs, given.block_s)
            low, _, high = statistics.quantiles(slower, n=4)
            middle = statistics.median(slower)
            spread = f"quartiles {low * 100:+.1f} to {high * 100:+.1f}, {given.pairs} pairs"
            rows.append((what, f"{middle * 100:+.1f} % of {step_s * 1000:.0f} ms ({spread})", "1 %"))
    print("\n".join(f"| {what} | {value} | {goal} |" for what, value, goal in rows))
    if given.out:
        found: dict[str, Any] = json.loads(given.out.read_text(encoding="utf-8"))
        names = {row[0] for row in rows}
        table = [row for row in found["table"] if row["what"] not in names]
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


def measure(output: Path, page: Callable[[], Any], pairs: int, block_s: float) -> tuple[list[float], float]:
    """Blocks without and with a page in turn, one more without.

    Returns:
        For each block with a page by which share its steps took longer than those of its neighbours; and the seconds
        that a step takes without a page.
    """
    blocks = [block(block_s)]
    for _ in range(pairs):
        with page():
            time.sleep(_SETTLE_S)
            blocks.append(block(block_s))
        time.sleep(_SETTLE_S)
        blocks.append(block(block_s))
    steps = [event for event in read_events(output / "events.jsonl") if event["kind"] == "step"]
    times = [statistics.fmean(it["step_s"] for it in steps if begin <= it["time"] < end) for begin, end in blocks]
    slower = [times[at] / statistics.fmean((times[at - 1], times[at + 1])) - 1 for at in range(1, len(times), 2)]
    return slower, statistics.median(times[::2])


def block(duration_s: float) -> tuple[float, float]:
    """Wait. Returns from when to when."""
    begin = time.time()
    time.sleep(duration_s)
    return begin, time.time()


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
