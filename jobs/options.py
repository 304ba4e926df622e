"""The options of `run.py`, and which of them go together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from jobs.draw_command import complaints

EXIT_CODES = """\
exit codes:
  0    all jobs done
  1    a job failed (also with --recover)
  2    wrong arguments, or a mistake in a job file or its data; nothing was loaded
  130  stopped by Ctrl+C or SIGTERM, after saving

web page:
  run.py ui [--help]  serves the web UI on this machine, where you create, queue and watch jobs

several cards:
  torchrun --standalone --nproc-per-node 2 run.py JOB    (docs/multi-gpu.md)

environment:
  RANKS_TIMEOUT_S  seconds after which a rank that the others wait for is considered hung
  SEED             training_seed of the first process, if the job file gives none
  FULL_IMPORTS=1   import whole libraries at the start: slower, but rules out lazy imports as a cause of errors
  DEBUG_TOOLKIT=1  find the operation that produces a NaN gradient (slow)
"""


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The options in these arguments. Prints what is wrong with them and ends the program, if anything is."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.version:
        return options
    others = (options.list_models, options.status, options.tell, options.report)
    for complaint in complaints(options):
        parser.error(complaint)
    is_drawing = options.sample is not None or options.model is not None
    if not options.jobs and not is_drawing and not any(others):
        parser.error("no job file given")
    if len(options.jobs) > 1 and (options.resume not in ("latest", "none") or options.from_step is not None):
        parser.error("--from-step, and --resume with a path, work with one job at a time")
    if options.resume == "none" and options.from_step is not None:
        parser.error("--resume none starts at step 0: omit --from-step")
    if options.json and not options.check and not options.status:
        parser.error("--json works only with --check or --status")
    if options.vram is not None and not (options.check and options.vram > 0):
        parser.error("--vram works only with --check, and needs a size above 0")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Train FLUX.2 from job files.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("jobs", metavar="JOB", nargs="*", help="job file (YAML or JSON), or the name of one in config/")
    parser.add_argument("-n", "--name", help="job name: replaces [name] in the job file")
    parser.add_argument("-r", "--recover", action="store_true", help="continue with the next job when one fails")
    parser.add_argument("-l", "--log", type=Path, metavar="FILE", help="also append everything that is printed to FILE")
    parser.add_argument("--check", action="store_true", help="check job and data and print the plan, without training")
    parser.add_argument("--json", action="store_true", help="with --check or --status: print JSON, for programs")
    parser.add_argument(
        "--vram",
        type=float,
        metavar="GB",
        help="with --check: plan for a GPU with this much memory, as its maker states it, instead of this machine",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the first process, such as train.steps=20 or datasets.0.folder_path=DIR; repeatable",
    )
    parser.add_argument(
        "--resume",
        default="latest",
        metavar="PATH|latest|none",
        help="where to resume from: the newest checkpoint (latest, the default), step 0 (none), another output folder, "
        "or one of the numbered folders in its state/. Checkpoints that would be overwritten are moved to superseded/, "
        "never deleted",
    )
    parser.add_argument("--from-step", type=int, metavar="N", help="resume from the checkpoint of step N")
    parser.add_argument(
        "--accept-config-change",
        action="store_true",
        help="resume even if settings that affect the training have changed since the checkpoint",
    )
    parser.add_argument(
        "--status",
        action="append",
        type=Path,
        metavar="FOLDER",
        help="print what happened in an output folder and which of its checkpoints are valid; repeatable",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="write report.html into an output folder: curves, samples, settings and memory on one page. A run writes "
        "it by itself when it ends",
    )
    parser.add_argument(
        "--tell",
        nargs=2,
        metavar=("FOLDER", "COMMAND"),
        help="send a command to the run that is using an output folder: `stop` (finish the step, save and end), `save` "
        "(write a checkpoint now) or `sample` (draw samples now)",
    )
    _add_drawing(parser)
    parser.add_argument("--no-cache", action="store_true", help="neither read nor write the cache of quantized weights")
    parser.add_argument("--list-models", action="store_true", help="print the models that a job may name")
    parser.add_argument("-v", "--version", action="store_true", help="print the versions of the trainer and libraries")
    return parser


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("drawing", "draw pictures with a run, or with a model and LoRA files")
    group.add_argument(
        "--sample",
        metavar="JOB|FOLDER",
        help="draw with the latest result of a run: its job file, or its output folder",
    )
    group.add_argument("--model", metavar="NAME|PATH", help="draw with this model, instead of that of a run")
    group.add_argument("--arch", help="with --model: the kind of model, if its name does not show it")
    group.add_argument(
        "--lora",
        dest="loras",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="draw with this LoRA, from any program; repeatable",
    )
    group.add_argument(
        "--adapter",
        dest="adapters",
        action="append",
        default=[],
        metavar="FILE[:ENCODER]",
        help="draw with this adapter, trained here, and the folder or hub id of the vision encoder that it was trained "
        "with, if it reads one; repeatable",
    )
    group.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="one prompt per line, with flags such as --w 512 --seed 3, or a list as YAML or JSON; default: the "
        "prompts of the run's samples",
    )
    group.add_argument(
        "--sheet",
        choices=("checkpoints", "strengths", "steps", "grid"),
        help="draw each prompt with each checkpoint of the run, at several strengths, in several numbers of steps, or "
        "with each checkpoint at each strength, and show them on one sheet",
    )
    group.add_argument("--output", type=Path, metavar="FOLDER", help="folder for the pictures")
