"""The command line: reads job files, runs them one after another, and prints how they ended."""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # while modules are imported, which leave no garbage: a tenth of the time of a check

import argparse
import contextlib
import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.about import broken_extensions, model_table, versions_text
from jobs.check_json import document, job_facts, unreadable_facts
from jobs.given_jobs import load_job_of, load_jobs, sources
from jobs.in_a_row import exit_code, run_jobs
from jobs.options import read_options
from jobs.run_report import report
from jobs.status import status, status_as_json
from jobs.summary import summary
from jobs.tell import tell
from toolkit.errors import UserError
from toolkit.extension import REPOSITORY
from toolkit.parallel.ranks import find_ranks, on_all, part_from
from toolkit.runtime.allocator import grow_segments
from toolkit.runtime.log_file import log_to, silent
from toolkit.runtime.stop import StopRequest
from toolkit.runtime.threads import share_cores

gc.enable()
gc.freeze()

UI_PACKAGES = ("fastapi", "uvicorn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (default: `sys.argv`). Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] == "ui":
        return _ui(arguments[1:])
    share_cores()
    grow_segments()
    options = read_options(arguments)
    if options.version:
        print(versions_text())
        return 0
    try:
        ranks = find_ranks()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with silent(not ranks.is_first), log_to(options.log if ranks.is_first else None):
            if not options.json:
                print("".join(f"{line}\n" for line in broken_extensions()), end="", file=sys.stderr)
            if options.list_models:
                print(model_table())
                return 0
            if options.tell:
                folder, command = options.tell
                print(tell(Path(folder), command))
                return 0
            if options.report:
                print(report(options.report))
                return 0
            if options.status and options.json:
                print(json.dumps(status_as_json(options.status), indent=2, ensure_ascii=False))
                return 0
            if options.status:
                print("\n".join(line for folder in options.status for line in status(folder)))
                return 0
            if options.json:
                return _check_as_json(options)
            return _check(options) if options.check else _run(options)
    except UserError as error:
        if ranks.is_first:
            print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while checking; a run turns signals into requests
        ranks.end_all("Stopped.", 130, is_effect=True, is_common=True)
        return 130


def _ui(arguments: Sequence[str]) -> int:
    """The web page. Its server is a program of its own, with its own options."""
    missing = [package for package in UI_PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        print(f"The web page needs {' and '.join(missing)}. Install what is missing with:", file=sys.stderr)
        print(f"  {sys.executable} -m pip install -r {REPOSITORY / 'requirements.txt'}", file=sys.stderr)
        return 2
    from ui.server.main import main as serve  # no other command needs its packages

    return serve(arguments)


def _run(options: argparse.Namespace) -> int:
    ranks = find_ranks()
    jobs = on_all(ranks, lambda: load_jobs(options))
    stop = StopRequest(announces=ranks.world == 1)
    with stop.listen():
        results = run_jobs(jobs, stop, recover=options.recover)
    print(summary(results))
    return part_from(ranks, exit_code(results, stop))


def _check(options: argparse.Namespace) -> int:
    is_fine = True
    for job in load_jobs(options):
        print(f"\n{job.config.path}: the settings of job {job.config.name} are valid")
        try:
            for line in job.check():
                print(job.config.redact(line))
        except UserError as error:
            print(job.config.redact(str(error)), file=sys.stderr)
            is_fine = False
    return 0 if is_fine else 2


def _check_as_json(options: argparse.Namespace) -> int:
    """Print one JSON document, mistakes included; `jobs.check_json` describes it."""
    entries = []
    for path in sources(options):
        try:
            job = load_job_of(path, options)
        except UserError as error:
            entries.append(unreadable_facts(path, error))
            continue
        with contextlib.redirect_stdout(sys.stderr):  # what a library prints must not end up in the document
            checks = list(job.checks())
        entries.append(job_facts(job.config, checks))
    found = document(entries, broken_extensions())
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0 if found["ok"] else 2


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a reader at the other end of a pipe gets each line at once
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.exit(main())
