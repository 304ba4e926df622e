"""toolkit.version"""

import re
from pathlib import Path

from toolkit.version import VERSION, read_version


def test_the_version_is_that_of_the_project_file() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_a_tree_without_its_project_file_still_runs(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[project", encoding="utf-8")
    assert read_version(tmp_path / "pyproject.toml") == read_version(tmp_path / "broken.toml") == "unknown"
