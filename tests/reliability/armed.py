"""run.py in a process of its own that dies at a given place: `python -m tests.reliability.armed ORDERS job.yaml`.

ORDERS is a JSON object: `aim` (an `Aim` or null), `seed`, and `counts`, the file for the operations by place (or null).
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from tests.reliability.faults import Aim, Faults

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Arm this process and become run.py."""
    orders = json.loads(sys.argv[1])
    faults = Faults(Aim(**orders["aim"]) if orders["aim"] else None, seed=orders["seed"])
    faults.arm()
    sys.argv = ["run.py", *sys.argv[2:]]
    try:
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    finally:
        if orders["counts"]:
            faults.write_counts(Path(orders["counts"]))


if __name__ == "__main__":
    main()
