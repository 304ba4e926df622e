"""How far a stage is."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from toolkit.output.events import EventLog, read_events
from toolkit.runtime.progress import Progress
from toolkit.train.stages import Stages


def test_the_remaining_time_is_that_at_the_speed_of_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with EventLog(tmp_path / "events.jsonl") as events:
        running = Stages(events, Progress(stream))
        with running.stage("encode images"):
            running.count(1, 10_000, "images")
            now[0] = 1.0
            running.count(4000, 10_000, "images")  # these were cached
            for second in range(2, 62):
                now[0] = float(second)
                running.count(4000 + 10 * second, 10_000, "images")
    counted = [event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "progress"]
    assert counted[0]["left_s"] is None and counted[-1]["left_s"] == round((10_000 - 4610) / 10)
    lines = [line for line in stream.getvalue().splitlines() if "left" in line]
    assert len(lines) == 6 and lines[-1] == "encode images: 4600 of 10000 images, 9m 00s left"
