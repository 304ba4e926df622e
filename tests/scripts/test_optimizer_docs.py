from __future__ import annotations

from scripts import write_optimizer_docs
from toolkit.optimizers.choices import OPTIMIZERS


def test_the_document_is_current() -> None:
    assert write_optimizer_docs.main(["--check"]) == 0, "run python scripts/write_optimizer_docs.py"


def test_every_kind_says_what_it_is_good_for() -> None:
    assert all(row.takes and row.lr for row in OPTIMIZERS.values())
