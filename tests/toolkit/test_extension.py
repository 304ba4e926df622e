from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from toolkit.extension import ROOTS, Root, find_packages, find_processes, read_processes

_numbers = itertools.count()

GOOD = """
class Trainer:
    uid = "{uid}"
    name = "A trainer"

    @classmethod
    def get_process(cls):
        raise AssertionError("asked before it was needed")

AI_TOOLKIT_EXTENSIONS = [Trainer]
"""


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


def test_the_trainer_has_all_the_names_that_job_files_use() -> None:
    assert {"sd_trainer", "diffusion_trainer", "ui_trainer"} <= set(find_processes())


def test_finding_processes_calls_none_of_them_and_loads_no_torch(root: Root) -> None:
    add_package(root, "mine", GOOD.format(uid="mine"))
    assert set(read_processes((root,)).by_uid) == {"mine"}


def test_a_users_process_stands_before_ours_of_the_same_name(root: Root) -> None:
    add_package(root, "mine", GOOD.format(uid="sd_trainer"))
    found = read_processes((root, *ROOTS)).by_uid
    assert found["sd_trainer"].__module__ == f"{root.package}.mine"
    assert found["ui_trainer"].__module__ == "extensions_built_in.sd_trainer"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def broken(:", "SyntaxError"),
        ("class NoUid:\n    pass\nAI_TOOLKIT_EXTENSIONS = [NoUid]", "NoUid in AI_TOOLKIT_EXTENSIONS needs `uid`"),
        ("AI_TOOLKIT_EXTENSIONS = ['text']", "must list classes, found 'text'"),
    ],
)
def test_a_broken_extension_is_named_with_its_error_and_the_others_work(root: Root, text: str, reason: str) -> None:
    add_package(root, "bad", text)
    add_package(root, "good", GOOD.format(uid="good"))
    found = read_processes((root,))
    assert set(found.by_uid) == {"good"}
    (broken,) = found.broken
    assert broken.package == f"{root.package}.bad"
    assert reason in str(broken)


def test_a_fault_in_our_own_package_is_not_hidden(root: Root) -> None:
    add_package(root, "bad", "import no_such_library")
    ours = Root(root.package, root.folder, is_built_in=True)
    with pytest.raises(ModuleNotFoundError):
        read_processes((ours,))


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
