"""How much is done: a little on every push, all of it by `make torture`.

`TORTURE` is the share of the long form: 1 for all of it, 0.1 for a tenth. Unset, the tests do what CI has time for.
"""

from __future__ import annotations

import os

SHARE = float(os.environ["TORTURE"]) if os.environ.get("TORTURE") else None
IS_LONG = SHARE is not None


def count(ci: int, *, long: int) -> int:
    """How many: `ci` on every push, `long` in the whole long form."""
    return ci if SHARE is None else max(1, round(SHARE * long))


FORK_KILLS = count(32, long=2000)
# Or as many as there are. The first 8 show every network; `tests/toolkit/train/test_exact_resume.py` interrupts every
# optimizer and schedule; the first 19 would show them here too.
FORK_CASES = count(8, long=1000)
ADAPTER_KILLS = count(2, long=100)  # of each of eight jobs
DRAWING_KILLS = count(3, long=200)
PROGRAM_KILLS = count(2, long=200)
LONG_RUN_STEPS = count(1000, long=20_000)
SEED = int(os.environ.get("TORTURE_SEED", "1"))
