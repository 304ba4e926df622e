"""Datasets on the command line: python -m toolkit.data report FOLDER|JOB."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from toolkit.cards import ReferenceLimits
from toolkit.config import DatasetConfig, load_job
from toolkit.data.buckets import DIVISOR_PX
from toolkit.data.image_files import IMAGES
from toolkit.data.references import ReferenceRules
from toolkit.data.report.build import build_report
from toolkit.data.report.text import as_text
from toolkit.data.scan import scan_datasets, scan_job
from toolkit.data.scan_result import Scan
from toolkit.data.sources.find import list_images
from toolkit.errors import UserError
from toolkit.files import json_text, write_text
from toolkit.runtime.waiting import said_every

_EVERY_S = 5.0
_AT_ONCE, _EACH = 40, 10  # images


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0; 1 if the datasets cannot be trained on; 2 for a user's mistake."""
    given = _parser().parse_args(arguments)
    try:
        return _report(given)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _report(given: argparse.Namespace) -> int:
    say, num_inspected = said_every(_EVERY_S, "images looked at"), 0
    if given.progress:
        say, num_inspected = _print_progress, _inspect(given)
    datasets, scan = _scanned(given)

    def count(done: int, total: int) -> None:
        say(num_inspected + done, num_inspected + total)

    report = build_report(datasets, scan, trigger_word=given.trigger_word, count=count)
    print(as_text(report))
    if given.json:
        write_text(given.json, json_text(report.as_json()))
    if given.html:
        from toolkit.data.report.page import as_page  # loads torch, for pictures of the crops

        write_text(given.html, as_page(report, datasets, scan, num_thumbnails=given.thumbnails))
        print(f"the page: {given.html}")
    return 1 if report.problems else 0


def _scanned(given: argparse.Namespace) -> tuple[Sequence[DatasetConfig], Scan]:
    if given.source.suffix.lower() in (".yaml", ".yml"):
        try:
            config = load_job(given.source).training()
        except TypeError as error:
            raise UserError(f"{given.source}: {error}") from error
        if config.card is None:
            raise UserError(f"{given.source}: its model is not known, so the image sizes are not known either")
        return config.datasets, scan_job(config, config.card)
    keys = {"folder_path": given.source, "resolution": given.resolution, "recursive": given.recursive}
    partners = {"control_path": given.references, "mask_path": given.masks, "unconditional_path": given.counterparts}
    # what lacks a partner is a finding here: whether a training takes it is for its job to say
    missing = {"allow_missing_control": True} if given.references else {}
    named = {key: value for key, value in partners.items() if value}
    dataset = DatasetConfig.model_validate({**keys, **named, **missing, "caption_ext": given.caption_ext})
    rules = ReferenceRules(ReferenceLimits(), DIVISOR_PX)
    return [dataset], scan_datasets([dataset], divisor_px=DIVISOR_PX, trigger_word=None, rules=rules)


def _inspect(given: argparse.Namespace) -> int:
    """Decode the images of a folder ahead of its scan, and print how far that is. Returns their number."""
    images = list_images(given.source, recursive=given.recursive).images
    for start in range(0, len(images), _AT_ONCE):
        IMAGES.inspect_all(images[start : start + _AT_ONCE])
        _print_progress(min(start + _AT_ONCE, len(images)), 2 * len(images))
    return len(images)


def _print_progress(done: int, total: int) -> None:
    if done % _EACH == 0 or done == total:
        print(json.dumps({"done": done, "total": total}), file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m toolkit.data", description="Look at datasets before training.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser(
        "report", help="counts, sizes, crops, captions, copies, and problems that may harm training"
    )
    one.add_argument("source", type=Path, metavar="FOLDER|JOB", help="a dataset, or a job file (.yaml) with datasets")
    one.add_argument("--html", type=Path, metavar="FILE", help="write a page with the crops too")
    one.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON too")
    one.add_argument(
        "--thumbnails",
        type=int,
        default=24,
        help="maximum number of thumbnails per bucket in the page; default: %(default)s",
    )
    one.add_argument("--resolution", type=int, default=1024, help="of a folder; default: %(default)s")
    one.add_argument("--caption-ext", default=".txt", help="of a folder; default: %(default)s")
    one.add_argument("--trigger-word", metavar="WORD", help="list captions without this word")
    one.add_argument(
        "--references",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="for a folder: the folder of its references; repeatable",
    )
    one.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="for a folder: the folder of its masks, which may be the same folder",
    )
    one.add_argument(
        "--counterparts", type=Path, metavar="FOLDER", help="for a folder: the folder of its counterparts, for a slider"
    )
    one.add_argument("--progress", action="store_true", help="for a folder: print progress as lines of JSON")
    one.add_argument("--recursive", action="store_true", help="for a folder: include its subfolders")
    return parser


if __name__ == "__main__":
    sys.exit(main())
