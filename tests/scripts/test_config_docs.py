from __future__ import annotations

from pathlib import Path

import pytest

from scripts import write_config_docs
from toolkit.config.compat.departures import DEPARTURES
from toolkit.config.job import JobFile
from toolkit.config.reference.docs import config_docs
from toolkit.section import sections


def test_the_documentation_and_the_schema_are_current() -> None:
    assert write_config_docs.main(["--check"]) == 0, "run python scripts/write_config_docs.py"


def test_the_check_fails_where_a_file_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write_config_docs, "REPOSITORY", tmp_path)
    assert write_config_docs.main(["--check"]) == 1
    assert "docs/config.md is stale" in capsys.readouterr().out
    assert not (tmp_path / "docs").exists()
    assert write_config_docs.main([]) == 0
    assert write_config_docs.main(["--check"]) == 0
    (tmp_path / "docs/config.md").write_text("old")
    assert write_config_docs.main(["--check"]) == 1


def test_every_key_stands_in_the_documentation() -> None:
    text = config_docs()
    keys = {key for section in sections(JobFile).values() for key in section.model_fields}
    assert [key for key in keys if f"| `{key}`" not in text] == []


def test_departures_name_keys_that_exist() -> None:
    described = {path.removeprefix("config.process[].").removeprefix("config.process[]") for path in sections(JobFile)}
    for row in DEPARTURES:
        place, dot, _ = row.key.split(":")[0].split(",")[0].rpartition(".")
        assert not dot or place in described, row.key
