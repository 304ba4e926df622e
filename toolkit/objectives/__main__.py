"""What a job trains at, on the command line: python -m toolkit.objectives plot JOB [--png FILE]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from toolkit.config import TrainingProcessConfig, load_job
from toolkit.errors import UserError
from toolkit.objectives.noise.plot import as_text, histograms, save_picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, or 2 if the user made a mistake."""
    parser = argparse.ArgumentParser(prog="python -m toolkit.objectives", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plot = commands.add_parser("plot", help="show how often each noise level is drawn, and how much it counts")
    plot.add_argument("job", help="job file")
    plot.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in run.py")
    plot.add_argument("--png", type=Path, help="also write a picture to this file")
    given = parser.parse_args(arguments)
    try:
        processes = load_job(given.job, overrides=given.overrides).config.process
        training = [process for process in processes if isinstance(process, TrainingProcessConfig)]
        if not training:
            raise UserError(f"{given.job}: this job has no training process")
        found = [histogram for process in training for histogram in histograms(process)]
        for histogram in found:
            print("\n".join(as_text(histogram)))
        if given.png is not None:
            save_picture(found, given.png)
            print(f"written to {given.png}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
