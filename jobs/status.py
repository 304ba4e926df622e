"""`run.py --status FOLDER`: what has happened in an output folder, and what the next start could resume from.

With `--json`, one document for programs; it compares file sizes and computes no hashes:

    {"folders": [{
        "folder": path,
        "holder": null if no run is using it, else {"pid", "host", "since": ISO 8601, "is_elsewhere"},
        "run": null if there was none, else the latest start {
            "name", "status", "started", "ended": seconds since 1970 or null, "first_step", "error": text or null},
        "step": the last one that the log has, or null
        "total_steps": of the whole job, or null
        "stage": what a run that is using the folder is in, or null
        "resumable_steps": [steps]
        "newest_checkpoint": step or null
        "damaged_steps": [steps]
    }]}

`jobs.folder_state` says more of each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.folder_state import folder_state, last_step, require_folder
from toolkit.output.bundles import BrokenBundle, read_bundle, step_folders
from toolkit.output.lock import holder
from toolkit.output.run_record import Run, read_runs

_SHOWN_RUNS = 20


def status(folder: Path) -> list[str]:
    """The history of an output folder as lines for the user. Reads every bundle completely; changes nothing.

    Files can contain anything, so control characters are escaped to keep them from affecting the terminal.

    Raises:
        UserError: the folder does not exist.
    """
    require_folder(folder, "--status")
    runs = read_runs(folder)
    owner = holder(folder)
    lines = [f"{folder}: " + (f"in use by {owner}" if owner else "no run is using it")]
    step = last_step(folder)
    lines.append(f"last step recorded: {'none' if step is None else step}")
    lines.append("runs:" if runs else "runs: none recorded")
    if len(runs) > _SHOWN_RUNS:
        lines.append(f"  ({len(runs) - _SHOWN_RUNS} earlier ones omitted)")
    for run in runs[-_SHOWN_RUNS:]:
        lines += [f"  {line}" for line in _describe(run)]
    return [_printable(line) for line in [*lines, *_bundles(folder)]]


def status_as_json(folders: Sequence[Path]) -> dict[str, Any]:
    """The document of `--status --json`.

    Raises:
        UserError: there is no such folder.
    """
    for folder in folders:
        require_folder(folder, "--status")
    return {"folders": [folder_state(folder).as_json() for folder in folders]}


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def _describe(run: Run) -> list[str]:
    start, resumed, end = run.start, run.resumed, run.end
    origin = f"from step {resumed.get('step')}" if resumed else "no step reached"
    ended = f", ended {_moment(end.get('time'))}" if end else ""
    lines = [f"{_moment(start.get('time'))}  {run.status}, {origin}{ended}", f"    {start.get('command', '')}"]
    versions = start.get("versions")
    facts = [
        f"commit {start.get('commit')}" if start.get("commit") else "",
        ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else "",
        f"device {resumed['device']}" if "device" in resumed else "",
        f"{resumed['ranks']} ranks, {resumed.get('batches_per_step')} batches a step" if "ranks" in resumed else "",
        f"seed {start['seed']}" if "seed" in start else "",
        f"config {str(start['config_hash'])[:12]}" if "config_hash" in start else "",
    ]
    lines.append("    " + "; ".join(fact for fact in facts if fact))
    if end.get("error"):
        lines.append(f"    {str(end['error']).splitlines()[0]}")
    return lines


def _bundles(folder: Path) -> list[str]:
    lines = []
    for step_folder in step_folders(folder):
        try:
            bundle = read_bundle(step_folder, is_thorough=True)
        except BrokenBundle as broken:
            lines.append(f"  step {broken.step}: {'unfinished' if broken.is_unfinished else 'BROKEN'}, {broken}")
        else:
            size = sum(written.num_bytes for path, written in bundle.files.items() if step_folder in path.parents)
            gone = [path.name for path in bundle.output_files if not path.exists()]
            weights = f"; its weights were moved or deleted: {', '.join(gone)}" if gone else ""
            what = f"valid, {size:,} bytes" if bundle.has_state else "weights only, its state was not kept"
            lines.append(f"  step {bundle.step}: {what}{weights}")
    return [f"bundles in {folder / 'state'}:", *lines] if lines else ["bundles: none"]


def _moment(seconds: object) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(seconds))))
    except (ValueError, OverflowError, OSError):
        return "(no time)"
