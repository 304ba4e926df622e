"""Runs of every network, optimizer and average, and a drawing, killed at random moments and inside their own writes."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from tests.drawing import write_drawing
from tests.reliability.cases import cases
from tests.reliability.faults import Aim
from tests.reliability.fork_server import ForkServer, Start
from tests.reliability.kill_sweep import Report, sweep_all
from tests.reliability.results import Results
from tests.reliability.scale import DRAWING_KILLS, FORK_CASES, FORK_KILLS, SEED
from toolkit.output.events import read_events


def test_a_run_killed_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, smallest_model: Path, servers: list[ForkServer], results: Results
) -> None:
    began = time.monotonic()
    chosen = cases(min(FORK_CASES, FORK_KILLS))
    kills = -(-FORK_KILLS // len(chosen))
    total = Report()
    reports = sweep_all(
        [(case, None) for case in chosen],
        kills,
        servers=servers,
        model=smallest_model,
        folder=tmp_path,
        seed=SEED,
        stop_at_fault=False,
    )
    for number, report in enumerate(reports, 1):  # the table is right at any time: a long form may be interrupted
        total.add(report)
        results.add("Forked runs, killed", jobs=number, **total.figures(), seconds=round(time.monotonic() - began))
    assert not total.faults, "\n".join(total.faults)
    assert total.kills.total() >= FORK_KILLS


def test_a_drawing_killed_anywhere_draws_each_picture_once_and_whole(
    tmp_path: Path, smallest_model: Path, servers: list[ForkServer]
) -> None:
    """A start for each kill and two that nobody kills, at most four fifths of a second of processor time each."""
    prompts = [f"picture {number} --seed {number}" for number in range(DRAWING_KILLS + 1)]
    model = {"name_or_path": str(smallest_model), "arch": "flux2_klein_4b"}
    generate = {"prompts": prompts, "width": 16, "height": 16, "sample_steps": 1}
    jobs = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        jobs.append(write_drawing(tmp_path / name, generate=generate, model=model, sheet="steps", steps=[1]))
    whole, killed = (job.parent / "pictures" for job in jobs)
    start = Start(jobs[0], "whole")
    assert servers[0].run(start).how == "done", start.file("log").read_text()
    operations = json.loads(start.file("counts").read_text())["picture"] // (len(prompts) + 1)
    chosen, there = random.Random(SEED), dict[Path, int]()
    for number in range(DRAWING_KILLS):
        nth = 1 + number % operations if number < operations else chosen.randint(1, 2 * operations)
        start = Start(jobs[1], f"kill{number}", aim=Aim("picture", nth), seed=number)
        how = servers[0].run(start).how
        assert how in ("killed", "done"), start.file("log").read_text()
        for path, drawn_ns in there.items():
            assert path.stat().st_mtime_ns == drawn_ns, f"{path.name} was drawn twice"
        there = {path: path.stat().st_mtime_ns for path in killed.glob("0*.png")}
        assert all(path.read_bytes() == (whole / path.name).read_bytes() for path in there)
    start = Start(jobs[1], "rest")
    assert servers[0].run(start).how == "done", start.file("log").read_text()
    files = [sorted(path.name for path in folder.iterdir() if path.suffix != ".jsonl") for folder in (whole, killed)]
    assert files[0] == files[1], "nothing half written is left"
    told = [event["path"] for event in read_events(killed / "events.jsonl") if event["kind"] == "sample"]
    assert len(set(told)) == len(told), "none is told of twice"
