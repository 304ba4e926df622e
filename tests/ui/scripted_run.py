"""A run without a model: it reads its job and writes what a real one does, with the same lock, record, log, bundles.

    python tests/ui/scripted_run.py FOLDER/job.yaml [--from-step N] [--accept-config-change]

`meta.scripted` of the job says how it goes:

    step_s: 0.02            seconds a step takes
    check_s: 0              seconds the check takes
    refuse: text            the check finds this
    fail_at: 5              the step at which it fails, with this message: "the script said so"
    die_at: 5               the step at which it is killed
    hang_at: 5              the step after which it says nothing more, and lives
    gpu_bytes: 1000000      it says that it holds so much of a card
    ignores_stop: true      it does not end when it is asked to
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402

from toolkit.config import JobConfig, TrainingProcessConfig, load_job  # noqa: E402
from toolkit.errors import UserError  # noqa: E402
from toolkit.files import Written, sha256_file, write_bytes, write_text  # noqa: E402
from toolkit.output.bundles import (  # noqa: E402  # noqa: E402
    BrokenBundle,
    begin_bundle,
    bundle_folder,
    newest_bundle,
    read_bundle,
    set_aside,
    step_folders,
    write_manifest,
)
from toolkit.output.events import EventLog  # noqa: E402
from toolkit.output.lock import FolderInUse, FolderLost, RunLock  # noqa: E402
from toolkit.output.run_record import RunRecord  # noqa: E402
from toolkit.runtime.control import Command, ControlFolder  # noqa: E402

_GB = 1 << 30


class Asked(Exception):
    """The run was asked to stop, and has saved."""


class Control:
    """Signals, and the control folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = ControlFolder(folder)
        self.count = 0

    def listen(self) -> None:
        """Count signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count)

    def take(self, events: EventLog) -> list[Command]:
        """The commands that were sent since the last time."""
        commands = self.folder.take()
        for command in commands:
            events.write("control", command=command)
        return commands

    def _count(self, *_: Any) -> None:
        self.count += 1


def main() -> int:
    """Carry out a job file. Returns the exit code of `run.py`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--from-step", type=int)
    parser.add_argument("--accept-config-change", action="store_true")
    given = parser.parse_args()
    try:
        config = load_job(given.job)
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    script = dict(config.meta.get("scripted", {}))
    print(f"checking {config.name}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(float(script.get("check_s", 0)))
        if "refuse" in script:
            print(f"\njob.yaml has 1 mistake\n  config.process[0].train.lr: {script['refuse']}", file=sys.stderr)
            return 2
        return run(config, script, given.from_step)
    return 130


def run(config: JobConfig, script: dict[str, Any], from_step: int | None) -> int:
    """The process of the job."""
    process = config.training()
    folder = process.output_folder(config.name)
    control = Control(folder)
    control.listen()
    facts = {"job": config.name, "command": "scripted", "seed": process.training_seed}
    try:
        with RunLock(folder) as lock, RunRecord(folder, facts, in_place=lock.must_be_in_place) as record:
            try:
                train(config, process, folder, script, from_step, record, control)
            except Asked as reason:
                record.ends("interrupted", error=str(reason))
                print(reason, flush=True)
                return 130
            except KeyboardInterrupt:
                record.ends("stopped at once")
                return 130
            except FolderLost as error:
                print(error, file=sys.stderr, flush=True)
                return 1
            except UserError as error:
                record.ends("failed", error=f"UserError: {error}")
                with EventLog(folder / "events.jsonl") as events:
                    events.write("error", error="UserError", message=str(error), traceback="")
                print(error, file=sys.stderr, flush=True)
                return 1
            record.ends("done")
    except FolderInUse as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    return 0


def train(
    config: JobConfig,
    process: TrainingProcessConfig,
    folder: Path,
    script: dict[str, Any],
    from_step: int | None,
    record: RunRecord,
    control: Control,
) -> None:
    """The stages and the steps."""
    steps, step_s = process.train.steps, float(script.get("step_s", 0.02))
    write_text(folder / "config.yaml", config.as_written())
    with EventLog(folder / "events.jsonl") as events:
        events.write("job", run=record.run, name=config.name, arch=process.model.arch, steps=steps)
        for name in ("encode text", "encode images"):
            events.write("stage", name=name, state="started")
            if "stage_s" in script:
                events.write("progress", stage=name, done=1, total=4, unit="texts", left_s=90)
                _sleep(float(script["stage_s"]), control)
            events.write("progress", stage=name, done=4, total=4, unit="texts")
            events.write("stage", name=name, state="done", duration_s=0.1, **_memory())
        events.write("stage", name="train", state="started")
        if "gpu_bytes" in script:
            events.write("memory", ram_bytes=_GB, gpu_bytes=0, gpu_reserved_bytes=script["gpu_bytes"])
        start = _resume(folder, from_step)
        record.resumed(start, bundle=None, device="cpu")
        if start == 0 and not process.train.disable_sampling:
            draw(events, process, folder, 0)
        for step in range(start + 1, steps + 1):
            _sleep(step_s, control)
            _do_as_scripted(script, step)
            loss = 0.5 * math.exp(-step / steps) + 0.02 * math.sin(step)
            events.write(
                "step", step=step, loss=loss, terms={"velocity": loss}, lr=1e-4, grad_norm=1 + loss, step_s=step_s
            )
            commands = control.take(events)
            is_due = any(each and step % each == 0 for each in (process.save.save_every, process.sample.sample_every))
            if commands or control.count or is_due:
                must_be_in_place(record, events)
            if (process.save.save_every and step % process.save.save_every == 0) or "save" in commands:
                save(config, process, folder, step, events)
            every = process.sample.sample_every
            if (not process.train.disable_sampling and every and step % every == 0) or "sample" in commands:
                draw(events, process, folder, step)
            if (control.count or "stop" in commands) and not script.get("ignores_stop"):
                if control.count > 1:
                    raise KeyboardInterrupt
                save(config, process, folder, step, events)
                raise Asked(f"Stopped after step {step}; it is saved.")
        save(config, process, folder, steps, events, is_final=True)
        events.write("stage", name="train", state="done", duration_s=1.0, **_memory())
        events.write("done")


def must_be_in_place(record: RunRecord, events: EventLog) -> None:
    """As a run of the trainer does before it saves or draws."""
    try:
        record.in_place()
    except FolderLost as lost:
        events.write("error", error="FolderLost", message=str(lost), traceback="")
        events.write("end", run=record.run, status="failed", exit_code=1, step=None, error=f"FolderLost: {lost}")
        raise


def save(
    config: JobConfig,
    process: TrainingProcessConfig,
    folder: Path,
    step: int,
    events: EventLog,
    *,
    is_final: bool = False,
) -> None:
    """A checkpoint: weights for the user, and a bundle."""
    place = bundle_folder(folder, step)
    weights = folder / (f"{config.name}.safetensors" if is_final else f"{config.name}_{step:09d}.safetensors")
    if not (place / "manifest.json").exists():
        begin_bundle(place)
        parts = [place / "weights.safetensors", place / "optimizer.safetensors"]
        for path in parts:
            write_bytes(path, _tensors(step))
        write_bytes(weights, _tensors(step))
        files = parts if is_final else [*parts, weights]
        settings = config.redacted(process.model_dump(mode="json"))
        facts = {"job": config.name, "config": settings, "seed": process.training_seed}
        write_manifest(
            place, files={path: Written(path.stat().st_size, sha256_file(path)) for path in files}, facts=facts
        )
    elif is_final:
        write_bytes(weights, _tensors(step))
    size = weights.stat().st_size
    events.write("checkpoint", state="written", path=weights.name, step=step, bytes=size, final=is_final)


def draw(events: EventLog, process: TrainingProcessConfig, folder: Path, step: int) -> None:
    """A round of samples."""
    (folder / "samples").mkdir(exist_ok=True)
    for index, item in enumerate(process.sample.items(process.trigger_word)):
        color = (50 * index % 256, step * 7 % 256, 120)
        name = f"{time.time_ns() // 1_000_000}__{step:09d}_{index}.jpg"
        content = io.BytesIO()
        Image.new("RGB", (item.width, item.height), color).save(content, format="JPEG")
        write_bytes(folder / "samples" / name, content.getvalue())
        fields = {"prompt": item.prompt, "seed": item.seed, "width": item.width, "height": item.height}
        events.write("sample", path=f"samples/{name}", step=step, index=index, **fields)


def _resume(folder: Path, from_step: int | None) -> int:
    if from_step is None:
        bundle, _ = newest_bundle(folder)
        return bundle.step if bundle else 0
    later = [place for place in step_folders(folder) if int(place.name) > from_step]
    if later:
        set_aside(folder, list(map(_bundle, later)))
    return from_step


def _bundle(place: Path) -> Any:
    try:
        return read_bundle(place)
    except BrokenBundle as broken:
        return broken


def _do_as_scripted(script: dict[str, Any], step: int) -> None:
    if script.get("fail_at") == step:
        raise UserError("the script said so")
    if script.get("die_at") == step:
        os.kill(os.getpid(), signal.SIGKILL)
    while script.get("hang_at") == step:
        time.sleep(1)


def _sleep(seconds: float, control: Control) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not control.count:
        time.sleep(min(0.02, max(0.0, until - time.monotonic())))


def _memory() -> dict[str, int]:
    return {"peak_ram_bytes": _GB, "peak_gpu_bytes": 0, "predicted_ram_bytes": _GB, "predicted_gpu_bytes": 0}


def _tensors(step: int) -> bytes:
    header = {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"step": str(step)}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", float(step))


if __name__ == "__main__":
    sys.exit(main())
