"""The command line: python -m toolkit.migrate JOB.yaml --to ARCH."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from toolkit.cards import find_cards
from toolkit.config.reading.load import find_job_file
from toolkit.errors import UserError
from toolkit.migrate.findings import Change
from toolkit.migrate.migrate import migrate


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite one job. Returns the exit code: 0, or 2 after a mistake by the user."""
    cards = find_cards()
    given = _parser(sorted(cards)).parse_args(arguments)
    try:
        source = find_job_file(given.job)
        output = given.output or source.with_name(f"{source.stem}_{given.to}{source.suffix}")
        if output.exists() and not given.force:
            raise UserError(f"{output} already exists. Give another --output, or use --force to replace it.")
        findings = migrate(source, output, to=cards[given.to], cards=cards)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for title, is_change in (("Changed", True), ("To consider", False)):
        lines = [f"  {finding}" for finding in findings if isinstance(finding, Change) == is_change]
        if lines:
            print("\n".join([f"{title}:", *lines, ""]))
    print(f"Wrote {output}. Next: python run.py {output} --check")
    return 0


def _parser(archs: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.migrate",
        description="Rewrite a job file for another model, explaining each change. The old file is not changed.",
    )
    parser.add_argument("job", metavar="JOB", help="job file (YAML or JSON), or the name of one in config/")
    parser.add_argument("--to", required=True, choices=archs, help="arch to train instead")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: JOB_ARCH.yaml next to the old file")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())
