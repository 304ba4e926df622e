"""One job, killed again and again: what must hold after every kill, and at the end."""

from __future__ import annotations

import itertools
import json
import queue
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.reliability.bundles import valid_steps
from tests.reliability.cases import Case
from tests.reliability.faults import Aim
from tests.reliability.fork_server import ForkServer, Start
from tests.reliability.planted_bugs import Bug
from tests.reliability.torn_files import torn_files
from tests.reliability.witness import read_notes
from toolkit.output.events import read_events
from toolkit.weights.tensor_files import read_tensors

KILLS_PER_RUN = 10
AT_A_MOMENT = "at a random moment"


@dataclass
class Report:
    """What a sweep has seen.

    Attributes:
        kills: by place.
        starts: after a kill.
        losses: compared with the uninterrupted run's, bit by bit.
        tensors: final ones compared, of weights, optimizer and average.
        recomputed: most steps that a kill has cost.
        faults: what must not be, one line each; empty is green.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    losses: int = 0
    tensors: int = 0
    recomputed: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take in what another sweep has seen."""
        self.kills.update(other.kills)
        self.starts += other.starts
        self.losses += other.losses
        self.tensors += other.tensors
        self.recomputed = max(self.recomputed, other.recomputed)
        self.faults += other.faults

    def figures(self) -> dict[str, object]:
        """The same for a table."""
        return {
            "kills": self.kills.total(),
            "where": ", ".join(f"{place} {count}" for place, count in sorted(self.kills.items())),
            "most_steps_recomputed": self.recomputed,
            "losses_compared_bit_by_bit": self.losses,
            "final_tensors_compared_bit_by_bit": self.tensors,
            "faults": len(self.faults),
        }


def sweep_all(
    cases: Sequence[tuple[Case, Bug | None]],
    kills: int,
    *,
    servers: Sequence[ForkServer],
    model: Path,
    folder: Path,
    seed: int,
    stop_at_fault: bool,
) -> Iterator[Report]:
    """Sweep over several jobs, as many at once as there are servers. Yields their reports in order.

    Args:
        cases: each with the bug that is planted, or None.
        kills: in each.
        servers: start the jobs.
        model: the smallest FLUX.2.
        folder: for everything that is written.
        seed: chooses moments and places.
        stop_at_fault: end a sweep at its first fault.
    """
    free: queue.Queue[ForkServer] = queue.Queue()

    def sweep(number: int) -> Report:
        case, bug = cases[number]
        server = free.get()
        try:
            place = folder / f"sweep{number}"
            sweep = KillSweep(server, case, model=model, folder=place, seed=seed, bug=bug)
            return sweep.run(kills, stop_at_fault=stop_at_fault)
        finally:
            free.put(server)

    for server in servers:
        free.put(server)
    pool = ThreadPoolExecutor(len(servers))
    try:
        yield from pool.map(sweep, range(len(cases)))
    finally:
        pool.shutdown(cancel_futures=True)  # who is interrupted waits for no sweep that has not begun


class KillSweep:
    """Kills one job until it has been killed often enough, and judges.

    Args:
        server: starts the job.
        case: the job.
        model: the smallest FLUX.2.
        folder: for everything that is written.
        seed: chooses moments and places.
        bug: planted in every start, the uninterrupted one too.
    """

    def __init__(
        self, server: ForkServer, case: Case, *, model: Path, folder: Path, seed: int, bug: Bug | None = None
    ) -> None:
        self.server = server
        self.case = case
        self.model = model
        self.folder = folder
        self.bug = bug
        self.report = Report()
        self._random = random.Random(f"{seed}/{case}")

    def run(self, kills: int, *, stop_at_fault: bool = False) -> Report:
        """Kill the job `kills` times, in as many runs as that takes.

        Args:
            kills: how often.
            stop_at_fault: the first fault is enough.
        """
        self._run_uninterrupted()
        for number in itertools.count():
            left = kills - self.report.kills.total()
            if left <= 0 or (stop_at_fault and self.report.faults):
                return self.report
            folder = self.folder / f"run{number}"
            self._kill_and_finish(folder, min(left, 1 if self.bug else KILLS_PER_RUN))
            if not self.report.faults:
                shutil.rmtree(folder)
        raise AssertionError("never comes here")

    def _run_uninterrupted(self) -> None:
        job = self.case.write(self.folder / "whole", self.model)
        start = Start(job, "whole", bug=self.bug.name if self.bug else None)
        end = self.server.run(start)
        assert end.how == "done", start.file("log").read_text()
        self._seconds = end.seconds
        self._losses = dict(read_notes(start.file("notes")))
        self._counts = json.loads(start.file("counts").read_text())
        assert len(self._losses) == self.case.steps

    def _kill_and_finish(self, folder: Path, kills: int) -> None:
        job = self.case.write(folder, self.model)
        is_cached = self.bug.place != "cache" if self.bug else self._random.random() < 0.5
        if is_cached:  # the others make their caches, and are killed while they do
            shutil.copytree(self.folder / "whole" / "images", folder / "images", dirs_exist_ok=True)
        done = 0  # steps that were done before the last kill
        for number in range(kills + 1):
            aim, moment = self._choose(done, fills_caches=not (is_cached or number)) if number < kills else (None, None)
            start = Start(
                job,
                f"start{number}",
                aim=aim,
                kill_after_s=moment,
                bug=self.bug.name if self.bug else None,
                seed=self._random.randrange(2**32),
            )
            end = self.server.run(start)
            done = self._judge_steps(start, done)
            if end.how != "killed":
                break
            self.report.kills[aim.place if aim else AT_A_MOMENT] += 1
            self.report.starts += 1
            self.report.faults += [f"{start.job.parent}: {start.name} left {line}" for line in torn_files(folder)]
        if end.how == "done":
            self._judge_end(folder / "output" / "job")
        else:
            self._fault(start, f"ended as {end.how}: {start.file('log').read_text(errors='replace')[-2000:]}")

    def _choose(self, done: int, *, fills_caches: bool) -> tuple[Aim | None, float | None]:
        """Half of the kills come at some moment, half at some operation; with a bug, where it can show.

        Args:
            done: steps; what is left is about what follows the last bundle.
            fills_caches: that is what it does first.
        """
        if self.bug:
            passes = self._counts[self.bug.place]
            return Aim(self.bug.place, self._random.randint(round(self.bug.after * passes) + 1, passes)), None
        left = 1 - done // self.case.save_every * self.case.save_every / self.case.steps
        if self._random.random() < 0.5:  # half of a run is what every start does anew
            return None, self._random.uniform(0, self._seconds * (1 + left) / 2)
        place = "cache" if fills_caches else self._random.choice(sorted(self._counts.keys() - {"cache"}))
        return Aim(place, self._random.randint(1, max(1, round(left * self._counts[place])))), None

    def _judge_steps(self, start: Start, done: int) -> int:
        """Look at what one start has computed. Returns the steps done so far."""
        notes = read_notes(start.file("notes"))
        for step, loss in notes:
            self.report.losses += 1
            if loss != self._losses.get(step):
                self._fault(start, f"step {step} has the loss {loss} instead of {self._losses.get(step)}")
                break
        if not notes:
            return done
        lost = done - notes[0][0]
        self.report.recomputed = max(self.report.recomputed, lost)
        if not 0 <= lost <= self.case.save_every:
            self._fault(start, f"{done} steps were done, and it went on after step {notes[0][0]}")
        return notes[-1][0] + 1

    def _judge_end(self, output: Path) -> None:
        whole = self.folder / "whole" / "output" / "job"
        steps = [valid_steps(place) for place in (whole, output)]
        if steps[0] != steps[1]:
            self.report.faults.append(f"{output}: ended with bundles of steps {steps[1]} instead of {steps[0]}")
            return
        final = Path("state", f"{self.case.steps:09d}")
        files = [path.relative_to(whole) for path in (*_final_files(whole), *(whole / final).glob("*.safetensors"))]
        for name in files:
            if not (output / name).is_file():
                self.report.faults.append(f"{output}: ended without {name}")
                continue
            one, other = read_tensors(whole / name), read_tensors(output / name)
            self.report.tensors += len(one)
            unequal = [key for key in one if key not in other or not torch.equal(one[key], other[key])]
            if unequal or one.keys() != other.keys():
                self.report.faults.append(f"{output}: {name} ended with other values, such as {unequal[:1]}")
        for event in read_events(output / "events.jsonl"):
            if event["kind"] == "step" and event["loss"] != float.fromhex(self._losses[event["step"] - 1]):
                self.report.faults.append(f"{output}: the event log has another loss for step {event['step']}")

    def _fault(self, start: Start, what: str) -> None:
        planned = f"aimed at {start.aim}" if start.aim else f"to be killed after {start.kill_after_s} s"
        self.report.faults.append(f"{self.case}: {start.job.parent.name}, {start.name} ({planned}): {what}")


def _final_files(output: Path) -> list[Path]:
    """The files for users of the last step; those of a step have its number at the end of their names."""
    return [path for path in sorted(output.glob("*.safetensors")) if not path.stem[-9:].isdigit()]
