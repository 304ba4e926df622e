from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality_rows import ROWS
from benchmarks.quality_run import write_job
from scripts import write_quality_docs
from scripts.quality_figures import Figures, Interval
from toolkit.config import load_job


def test_the_document_is_current() -> None:
    assert write_quality_docs.main(["--check"]) == 0, "run python scripts/write_quality_docs.py"


def test_every_row_is_a_job_of_its_own(tmp_path: Path) -> None:
    def pictures(name: str) -> Path:
        for part in ("control", "target"):
            (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
        return tmp_path / name

    texts = set()
    for row in ROWS:
        file = write_job(row, tmp_path, seed=1, pictures=pictures)
        load_job(str(file))
        texts.add(file.read_text(encoding="utf-8"))
    assert len(texts) == len({row.key for row in ROWS}) == len(ROWS)


def test_an_interval_is_students() -> None:
    interval = Interval.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert interval.mean == 3.0
    assert interval.half == pytest.approx(2.776 * (2.5 / 5) ** 0.5, rel=2e-3)


def test_rows_are_compared_seed_by_seed_and_told_apart_only_outside_the_interval() -> None:
    seeds = {str(seed): {"concept": seed / 10, "kept": 0.5} for seed in range(1, 4)}
    more = {seed: {"concept": scores["concept"] + 0.05, "kept": 0.5} for seed, scores in seeds.items()}
    unsteady = {seed: {"concept": 0.2, "kept": 0.5 + (-1) ** int(seed) / 10} for seed in seeds}
    found = Figures({}, {"plain": seeds, "more": more, "unsteady": unsteady})
    assert found.verdict("more", "plain") == "learns more (+0.05 ± 0.00)"
    assert found.verdict("unsteady", "plain") == "no difference shown"
    mixed = Figures({}, found.rows, frozenset({"more"}))
    with pytest.raises(AssertionError, match="'more' and 'plain' have other number formats"):
        mixed.verdict("more", "plain")
