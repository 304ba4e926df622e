from __future__ import annotations

from pathlib import Path

import pytest

from scripts import write_vram_docs


def test_the_table_of_cards_is_current() -> None:
    assert write_vram_docs.main(["--check"]) == 0, "run python scripts/write_vram_docs.py"


def test_the_check_fails_where_the_table_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write_vram_docs, "REPOSITORY", tmp_path)
    monkeypatch.setattr(write_vram_docs, "document", lambda: "the table")  # which the plan takes seconds to make
    assert write_vram_docs.main(["--check"]) == 1
    assert "docs/vram.md is stale" in capsys.readouterr().out
    assert write_vram_docs.main([]) == 0
    assert write_vram_docs.main(["--check"]) == 0
