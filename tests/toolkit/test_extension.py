from __future__ import annotations

from tests.toolkit.user_extensions import add_package
from toolkit.extension import Root, find_packages


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
