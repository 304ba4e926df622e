"""LoRA files on the command line: python -m toolkit.lora info|convert|merge|resize|extract|ema|blocks|control."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from toolkit.adapters.control.export import join, widen
from toolkit.errors import UserError
from toolkit.files import write_json
from toolkit.lora.commands.convert import convert
from toolkit.lora.commands.ema import ema
from toolkit.lora.commands.info import info
from toolkit.lora.commands.low_rank import Goal
from toolkit.lora.commands.merge import merge
from toolkit.lora.commands.rewrite import add_up, extract, resize
from toolkit.lora.files import read_adapter_file
from toolkit.lora.keys import TEXT_ENCODER
from toolkit.networks.names import LYCORIS

FORMATS = ("bfl", "diffusers", "kohya")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, or 2 if the user made a mistake."""
    given = _parser().parse_args(arguments)
    try:
        for line in _run(given):
            print(line)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(given: argparse.Namespace) -> list[str]:
    if given.command == "control":
        _must_be_new(given)
        return _control(given)
    if given.command == "ema":
        _must_be_new(given)
        return ema(given.folder, given.output, width=given.width, step=given.step)
    if given.command == "blocks":
        return _blocks(given)
    source = {"arch": given.arch, "without": tuple(given.without)}
    if given.command == "info":
        return [line for path in given.files for line in info(path, **source)]
    _must_be_new(given)
    if given.command == "convert":
        read, without = read_adapter_file(given.file, **source), source["without"]
        return convert(given.file, given.output, source=read, file_format=given.format, without=without)
    if given.command == "resize":
        return resize(given.file, given.output, goal=_goal(given), base=given.base, file_format=given.format, **source)
    if given.command == "extract":
        goal = _goal(given)
        return extract(given.tuned, given.base, given.output, goal=goal, file_format=given.format, arch=given.arch)
    weights = given.weight or [1.0] * len(given.files)
    if len(weights) != len(given.files):
        raise UserError(f"--weight: {len(weights)} given for {len(given.files)} files. Give one for each, in order.")
    if given.base is None:
        goal = Goal(given.rank, given.energy)
        return add_up(given.files, given.output, weights=weights, goal=goal, file_format=given.format, **source)
    if given.rank is not None or given.energy is not None or given.format is not None:
        raise UserError("--rank, --energy and --format are for writing a LoRA: omit them, or omit --base.")
    return merge(given.files, given.base, given.output, weights=weights, **source)


def _goal(given: argparse.Namespace) -> Goal:
    if given.rank is None and given.energy is None:
        raise UserError("Give the required quality of the LoRA: --rank R, or --energy SHARE (such as 0.99), or both.")
    return Goal(given.rank, given.energy)


def _blocks(given: argparse.Namespace) -> list[str]:
    from jobs.block_losses import Grid  # the trainer, which no other command needs
    from jobs.block_study import as_text, study_blocks

    grid = Grid(given.images, given.levels, given.seed)
    study = study_blocks(given.job, given.file, grid, lambda line: print(line, flush=True))
    if given.json is not None:
        write_json(given.json, asdict(study))
    return as_text(study)


def _control(given: argparse.Namespace) -> list[str]:
    if given.base is None:
        return join(given.file, given.lora, given.output)
    return widen(given.file, given.lora, given.base, given.output)


def _must_be_new(given: argparse.Namespace) -> None:
    if given.output.exists() and not given.force:
        raise UserError(f"{given.output} already exists. Choose another --output, or pass --force to replace it.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m toolkit.lora", description="Inspect and change LoRA files.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("info", help="describe files")
    one.add_argument("files", nargs="+", type=Path, metavar="FILE")
    _add_source(one)
    for name, help_text in (
        ("convert", "write the same file, of any kind, with another program's names; alpha is folded into the weights"),
        ("resize", "change the rank: reduce it by SVD, or increase it without loss; writes any kind as a LoRA"),
        ("merge", "merge LoRAs, or other files that change weights, into their model or into one file"),
        ("extract", "write the difference of two models as a LoRA"),
    ):
        command = commands.add_parser(name, help=help_text)
        if name == "merge":
            command.add_argument("files", nargs="+", type=Path, metavar="FILE")
        elif name == "extract":
            command.add_argument("tuned", type=Path, metavar="MODEL")
        else:
            command.add_argument("file", type=Path, metavar="FILE")
        command.add_argument("--output", type=Path, required=True)
        command.add_argument("--force", action="store_true", help="replace the output if it exists")
        formats = (*FORMATS, LYCORIS) if name == "convert" else FORMATS
        command.add_argument("--format", choices=formats, help="default: the format that jobs of this model write")
        _add_source(command)
        if name in ("resize", "extract"):
            command.add_argument("--rank", type=_positive, help="largest rank")
            command.add_argument("--energy", type=_share, help="share of the squared norm to keep, such as 0.99")
        if name == "resize":
            command.add_argument("--base", type=Path, help="the model, for DoRA and OFT, whose change depends on it")
        if name == "extract":
            command.add_argument("--base", type=Path, required=True, help="the model that MODEL was made from")
        if name == "merge":
            command.add_argument(
                "--base",
                type=Path,
                help="the model: a safetensors file or a diffusers folder; without it, the sum is written as one LoRA",
            )
            command.add_argument("--weight", type=float, action="append", help="strength, once per file; default: 1")
            command.add_argument(
                "--rank", type=_positive, help="largest rank of the sum; default: the sum of the ranks"
            )
            command.add_argument("--energy", type=_share, help="share of the sum's squared norm to keep, such as 0.99")
    average = commands.add_parser("ema", help="make an average of any width from the snapshots of a run")
    average.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="its output folder")
    average.add_argument("--width", type=float, required=True, help="share of the training, 0.01 to 0.25, such as 0.1")
    average.add_argument("--step", type=int, help="last step of the average; default: the newest checkpoint's")
    average.add_argument("-o", "--output", type=Path, required=True)
    average.add_argument("--force", action="store_true", help="replace the output if it exists")
    blocks = commands.add_parser("blocks", help="show which blocks matter: the loss without each block's part")
    blocks.add_argument("job", type=Path, metavar="JOB_OR_RUN", help="job file, or output folder of a run")
    blocks.add_argument("file", type=Path, metavar="FILE", help="a weight file that the job has written")
    blocks.add_argument("--images", type=_positive, default=8, help="number of the job's images to use; default: 8")
    blocks.add_argument("--levels", type=_positive, default=6, help="number of noise levels; default: 6")
    blocks.add_argument("--seed", type=int, default=42, help="seed of the noise; default: 42")
    blocks.add_argument("--json", type=Path, help="also write the table to this file")
    control = commands.add_parser(
        "control", help="write the adapter of a control_lora job, and its LoRA, for ComfyUI or diffusers"
    )
    control.add_argument("file", type=Path, metavar="ADAPTER")
    control.add_argument("--lora", type=Path, help="the LoRA that was trained with the adapter")
    control.add_argument(
        "--base",
        type=Path,
        help="diffusers' folder of the transformer: write one like it with a wider embedder. Default: write one LoRA "
        "file, which ComfyUI reads",
    )
    control.add_argument("--output", type=Path, required=True)
    control.add_argument("--force", action="store_true", help="replace the output if it exists")
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arch", help="model that the file belongs to; default: detected")
    command.add_argument(
        "--without", action="append", default=[], choices=(TEXT_ENCODER,), help="omit the tensors of a component"
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError(text)
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
