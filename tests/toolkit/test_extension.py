from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from toolkit.extension import Root, find_packages

_numbers = itertools.count()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """An empty folder for user extensions, under a package name that no other test has used."""
    name = f"user_extensions_{next(_numbers)}"
    (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    return Root(name, tmp_path / name, is_built_in=False)


def add_package(root: Root, name: str, text: str) -> Path:
    folder = root.folder / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_that_is_missing_or_empty_holds_no_extensions(root: Root) -> None:
    assert find_packages((root, Root("nowhere", root.folder / "nowhere", is_built_in=False))) == []


def test_packages_one_folder_deeper_count_if_they_have_a_card(root: Root) -> None:
    shelf = Root(root.package, root.folder, root.is_built_in)
    folder = add_package(shelf, "shelf", "")
    for name in ("with_card", "without_card"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
    (folder / "with_card" / "card.py").write_text("CARDS = ()", encoding="utf-8")
    names = [package.name for package in find_packages((shelf,))]
    assert names == [f"{root.package}.shelf", f"{root.package}.shelf.with_card"]
