"""Fifty open pages beside a run: what their streams cost the server, and how late its steps reach them."""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from toolkit.output.events import EventLog
from toolkit.output.lock import RunLock
from toolkit.output.run_record import RunRecord

STEP_S = (
    0.05  # quicker than the server tells of it, so that every stream gets all the messages it can get: four a second
)


@contextmanager
def live_run(folder: Path) -> Iterator[None]:
    """A run of this process, which records its steps as the trainer does."""
    done = threading.Event()

    def run() -> None:
        with RunLock(folder), RunRecord(folder, {"job": folder.name, "command": "benchmark", "seed": 1}) as record:
            with EventLog(folder / "events.jsonl") as events:
                events.write("job", run=record.run, name=folder.name, arch="flux2_tiny", steps=1_000_000)
                record.resumed(0, bundle=None, device="cpu")
                step = 0
                while not done.wait(STEP_S):
                    step += 1
                    events.write("step", step=step, loss=0.5, terms={"velocity": 0.5}, lr=1e-4, step_s=STEP_S)
            record.ends("done")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Pages:
    """Open streams, read by one thread. The first one notes how late each step comes.

    Attributes:
        late_s: seconds from the time that a step was written with to its arrival.
        num_messages: of all streams.
    """

    def __init__(self, url: str, token: str, count: int) -> None:
        self.url = url
        self.token = token
        self.count = count
        self.late_s: list[float] = []
        self.num_messages = 0
        self._is_done = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """Read in the block."""
        selector = selectors.DefaultSelector()
        parts = urlsplit(self.url)
        ask = f"GET /api/events HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        for number in range(self.count):
            stream = socket.create_connection((parts.hostname or "", parts.port or 80))
            stream.sendall(ask.encode())
            selector.register(stream, selectors.EVENT_READ, number)
        thread = threading.Thread(target=self._read, args=(selector,))
        thread.start()
        try:
            yield
        finally:
            self._is_done = True
            thread.join()
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
            selector.close()

    def _read(self, selector: selectors.BaseSelector) -> None:
        while not self._is_done:
            for key, _ in selector.select(timeout=0.2):
                assert isinstance(key.fileobj, socket.socket)
                content, now = key.fileobj.recv(1 << 20), time.time()
                self.num_messages += content.count(b"\ndata: ")
                if key.data == 0:
                    self._note(content, now)

    def _note(self, content: bytes, now: float) -> None:
        for line in content.splitlines():
            if line.startswith(b"data: ") and b'"kind":"job"' in line:
                message = json.loads(line[6:])
                self.late_s += [now - event["time"] for event in message["events"] if event["kind"] == "step"]


def measure_streams(
    url: str, token: str, pid: int, folder: Path, ask: Callable[[], float], *, count: int = 50, duration_s: float = 20
) -> dict[str, float]:
    """What open pages cost.

    Args:
        url, token: of the server.
        pid: of the server.
        folder: an output folder that the server knows, for a run.
        ask: one request to the server; gives the seconds that it took.
        count: of pages.
        duration_s: how long to measure.

    Returns:
        messages a second and page; share of a core; seconds of requests and from a step to a page, each the p95.
    """
    server, pages = psutil.Process(pid), Pages(url, token, count)
    with live_run(folder), pages.open():
        time.sleep(3)  # the run has been found
        before, began, told = server.cpu_times(), time.monotonic(), pages.num_messages
        pages.late_s.clear()
        times: list[float] = []
        while time.monotonic() - began < duration_s:
            times.append(ask())
            time.sleep(0.1)
        spent, after = time.monotonic() - began, server.cpu_times()
        told = pages.num_messages - told
    return {
        "messages_per_s": told / count / spent,
        "core_share": (after.user + after.system - before.user - before.system) / spent,
        "request_p95_s": sorted(times)[int(len(times) * 0.95)],
        "step_to_page_p95_s": sorted(pages.late_s)[int(len(pages.late_s) * 0.95)],
    }
