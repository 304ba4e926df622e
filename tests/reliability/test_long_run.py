"""A run of thousands of steps takes no more memory, files or time at its end than at its beginning."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tests.reliability.programs import start
from tests.reliability.results import Results
from tests.reliability.scale import IS_LONG, LONG_RUN_STEPS
from tests.tiny import write_job
from toolkit.output.events import FILE_BYTES, OLDER_BYTES, read_events

EVERY_S = 0.05
WARM_UP = 0.25  # share of the run after which everything has been allocated once
# Over a short run a single arena of the allocator, or a file that was open when somebody looked, is a slope.
RSS_PER_1000_STEPS = 1e6 if IS_LONG else 30e6  # bytes
FILES_PER_1000_STEPS = 0.5 if IS_LONG else 5  # saves and samples: ten per 1,000 steps in the long form, 40 else
# Cores that share a unit slow each other down, and other tests come and go: over a short run that is up to 1.5.
STEP_GROWTH = 1.5 if IS_LONG else 2.5


@dataclass(frozen=True)
class Look:
    """The process from outside, at a moment (seconds since 1970); `cpu_s` is what it has used of the processor."""

    at: float
    rss_bytes: int
    num_files: int
    cpu_s: float


def test_memory_open_files_step_time_and_log_stay_flat(tmp_path: Path, smallest_model: Path, results: Results) -> None:
    every = max(50, LONG_RUN_STEPS // 200)
    job = write_job(
        tmp_path,
        train={
            "steps": LONG_RUN_STEPS,
            "batch_size": 1,
            "gradient_checkpointing": False,
            "disable_sampling": False,
            "ema_config": {"use_ema": True},
        },
        save={"save_every": every, "max_step_saves_to_keep": 2},
        sample={"sample_every": every, "prompts": ["a red circle"], "sample_steps": 1},
        model={"name_or_path": str(smallest_model)},
    )
    began = time.monotonic()
    looks = _watch(start(job, tmp_path / "log.txt"))
    output = tmp_path / "output" / "job"
    steps = [event for event in read_events(output / "events.jsonl") if event["kind"] == "step"]
    assert steps[-1]["step"] == LONG_RUN_STEPS, (tmp_path / "log.txt").read_text()[-2000:]

    at = np.searchsorted([event["time"] for event in steps], [look.at for look in looks])  # steps done at each look
    settled = [(step, look) for step, look in zip(at, looks, strict=True) if WARM_UP <= step / LONG_RUN_STEPS < 1]
    rss_slope = 1000 * np.polyfit([step for step, _ in settled], [look.rss_bytes for _, look in settled], 1)[0]
    files_slope = 1000 * np.polyfit([step for step, _ in settled], [look.num_files for _, look in settled], 1)[0]
    quarter = LONG_RUN_STEPS // 4
    cpu_s = [_slope(settled, begin, begin + quarter) for begin in (quarter, 3 * quarter)]
    memory = [look.rss_bytes / 1e6 for _, look in settled]
    second, last = ([event["step_s"] for event in steps[place : place + quarter]] for place in (quarter, 3 * quarter))
    log_bytes = sum(path.stat().st_size for path in output.glob("events*.jsonl"))
    results.add(
        "Long run",
        steps=LONG_RUN_STEPS,
        saves_and_rounds_of_samples=LONG_RUN_STEPS // every,
        rss=f"{memory[0]:.1f} MB after a quarter, {memory[-1]:.1f} MB at the end",
        rss_slope=f"{rss_slope / 1e6:+.3f} MB per 1,000 steps",
        open_files=f"{min(look.num_files for _, look in settled)} to {max(look.num_files for _, look in settled)}, "
        f"slope {files_slope:+.3f} per 1,000 steps",
        step_time=f"median {_ms(second)} ms in the second quarter, {_ms(last)} ms in the last",
        processor_time=f"{1000 * cpu_s[0]:.1f} ms per step in the second quarter, {1000 * cpu_s[1]:.1f} ms in the last",
        step_time_p95=f"{_ms(second, 95)} ms and {_ms(last, 95)} ms",
        event_log=f"{log_bytes / 1e6:.2f} MB in {len(list(output.glob('events*.jsonl')))} files",
        seconds=round(time.monotonic() - began),
    )
    assert rss_slope < RSS_PER_1000_STEPS
    assert abs(files_slope) < FILES_PER_1000_STEPS
    assert cpu_s[1] < STEP_GROWTH * cpu_s[0]  # not by the clock: the machine may be busy for a while
    assert log_bytes < FILE_BYTES + OLDER_BYTES
    assert len(list((output / "state").iterdir())) == 3


def _watch(process: subprocess.Popen[bytes]) -> list[Look]:
    looks, seen = [], psutil.Process(process.pid)
    while process.poll() is None:
        try:
            looks.append(Look(time.time(), seen.memory_info().rss, seen.num_fds(), sum(seen.cpu_times()[:2])))
        except psutil.Error:  # it has just ended
            break
        time.sleep(EVERY_S)
    assert process.wait() == 0
    return looks


def _slope(looks: list[tuple[int, Look]], begin: int, end: int) -> float:
    """Processor seconds per step from step `begin` to `end`, with the saves and samples between."""
    chosen = [(step, look.cpu_s) for step, look in looks if begin <= step < end]
    return float(np.polyfit([step for step, _ in chosen], [cpu_s for _, cpu_s in chosen], 1)[0])


def _ms(seconds: list[float], percentile: float | None = None) -> str:
    value = statistics.median(seconds) if percentile is None else float(np.percentile(seconds, percentile))
    return f"{1000 * value:.1f}"
