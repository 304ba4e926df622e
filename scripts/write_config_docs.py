"""Writes docs/config.md, docs/quantization.md and config/job.schema.json; --check only says if they are stale."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from scripts.quantization_docs import quantization_docs  # noqa: E402
from toolkit.config.docs import config_docs  # noqa: E402
from toolkit.config.schema import job_schema  # noqa: E402
from toolkit.files import write_text  # noqa: E402


def generated() -> dict[Path, str]:
    """The text of each generated file, by its path in the repository."""
    return {
        Path("docs/config.md"): config_docs(),
        Path("docs/quantization.md"): quantization_docs(),
        Path("config/job.schema.json"): json.dumps(job_schema(), indent=1, ensure_ascii=False) + "\n",
    }


def stale_files(repository: Path = REPOSITORY) -> dict[Path, str]:
    """The generated files in `repository` that are not what the classes say, with the text they should have."""
    return {path: text for path, text in generated().items() if not _is_current(repository / path, text)}


def main(arguments: list[str] | None = None) -> int:
    """Write or check. Returns the exit code: 1 if a check found a stale file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    check = parser.parse_args(arguments).check
    stale = stale_files(REPOSITORY)
    for path, text in stale.items():
        if check:
            print(f"{path} is stale: run python scripts/write_config_docs.py")
        else:
            write_text(REPOSITORY / path, text)
            print(f"wrote {path}")
    return 1 if check and stale else 0


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
