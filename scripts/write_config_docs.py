"""Writes docs/config.md, docs/quantization.md and config/job.schema.json; --check only reports stale files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from scripts.generated import write_or_check  # noqa: E402
from scripts.quantization_docs import quantization_docs  # noqa: E402
from toolkit.config.reference.docs import config_docs  # noqa: E402
from toolkit.config.reference.schema import job_schema  # noqa: E402


def generated() -> dict[Path, str]:
    """The content of each generated file, by its path in the repository."""
    return {
        Path("docs/config.md"): config_docs(),
        Path("docs/quantization.md"): quantization_docs(),
        Path("config/job.schema.json"): json.dumps(job_schema(), indent=1, ensure_ascii=False) + "\n",
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them. Returns the exit code: 1 if a check found a stale file."""
    script = "scripts/write_config_docs.py"
    return write_or_check(REPOSITORY, generated(), arguments, script=script, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
