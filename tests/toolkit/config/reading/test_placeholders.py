from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.config.conftest import Check, Problems, Tree
from toolkit.config.reading.load import load_job
from toolkit.config.reading.placeholders import expand_variables, load_env_file, redact
from toolkit.errors import JobError

SECRET = "hf_VerySecretValue_" + "x" * 80


def test_the_name_of_the_job_stands_for_its_placeholder_everywhere(job: Tree, process: Tree, check: Check) -> None:
    process["sample"] = {"prompts": ["a [name]"]}
    job["meta"] = {"title": "[name] v1"}
    checked = check()
    assert checked.training().sample.items()[0].prompt == "a cat"
    assert checked.meta == {"title": "cat v1"}


def test_the_given_name_stands_for_the_placeholder(job: Tree, check: Check) -> None:
    job["config"]["name"] = "[name]_v2"
    assert check(name="dog").name == "dog_v2"


def test_a_name_that_no_placeholder_asks_for_is_a_mistake(job: Tree, problems: Problems, check: Check) -> None:
    job["meta"] = {"name": "[name]"}
    assert "`--name dog` would have no effect" in problems(name="dog")["config.name"]
    assert check(name="cat").name == "cat"


def test_a_job_without_a_name_takes_the_given_one(job: Tree, check: Check) -> None:
    del job["config"]["name"]
    assert check(name="dog").name == "dog"


def test_a_name_that_asks_for_a_name_needs_one(job: Tree, problems: Problems) -> None:
    job["config"]["name"] = "[name]"
    assert "--name" in problems()["config.name"]


def test_a_variable_is_expanded_but_stored_as_written(
    process: Tree, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_STEPS", "12")
    monkeypatch.setenv("MY_WORD", SECRET)
    process["train"]["steps"] = "${MY_STEPS}"
    process["trigger_word"] = "a ${MY_WORD}"
    checked = check()
    assert checked.training().train.steps == 12
    assert checked.training().trigger_word == f"a {SECRET}"
    assert "trigger_word: a ${MY_WORD}" in checked.as_written()
    assert SECRET not in checked.as_written() + repr(checked.notices)


def test_a_variable_that_is_not_set_is_named_with_its_place(process: Tree, problems: Problems) -> None:
    process["trigger_word"] = "${NO_SUCH_VARIABLE}"
    assert problems() == {"trigger_word": "the environment variable NO_SUCH_VARIABLE is not set"}


def test_a_variable_in_a_comment_is_left_alone(job_file: Path) -> None:
    job_file.write_text("# ${NO_SUCH_VARIABLE}\n" + job_file.read_text())
    assert load_job(job_file).name == "cat"


@pytest.mark.parametrize(
    ("section", "key"),
    [("train", "lrr"), ("train", "steps"), ("train", "optimizer"), ("model", "arch"), ("train", "cfg_scale")],
)
def test_no_error_shows_the_value_of_a_variable(
    section: str, key: str, process: Tree, problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    process[section][key] = "${MY_TOKEN}"
    text = str(problems())
    assert SECRET[:12].lower() not in text.lower()
    assert "MY_TOKEN" in text


def test_no_error_about_a_path_shows_the_value_of_a_variable(
    process: Tree, problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    process["datasets"][0]["folder_path"] = "/${MY_TOKEN}/images"
    assert problems() == {"datasets[0].folder_path": 'no folder "/${MY_TOKEN}/images"'}


def test_redacting_leaves_short_values_and_takes_the_longest_first() -> None:
    secrets = {"A": "abcd", "B": "abcdef", "C": "abc"}
    assert redact("abc abcd abcdef", secrets) == "abc ${A} ${B}"


def test_expanding_leaves_the_given_tree_alone() -> None:
    tree: dict[str, Any] = {"a": ["${X}", 1], "${X}": "b"}
    expanded, secrets, problems = expand_variables(tree, {"X": "value"})
    assert (expanded, secrets, problems) == ({"a": ["value", 1], "${X}": "b"}, {"X": "value"}, [])
    assert tree == {"a": ["${X}", 1], "${X}": "b"}


def test_the_env_file_sets_only_what_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"MY_SET": "before"})
    (tmp_path / ".env").write_text("MY_SET=after\nMY_NEW='quoted value'\n")
    load_env_file(tmp_path)
    assert (os.environ["MY_SET"], os.environ["MY_NEW"]) == ("before", "quoted value")


def test_a_folder_without_env_file_is_no_error(tmp_path: Path) -> None:
    load_env_file(tmp_path)


def test_a_stored_job_is_read_as_the_same_job(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_job(job_file, overrides=["train.lr=3e-5", "trigger_word=a [name]"])
    job_file.write_text(first.as_written())
    again = load_job(job_file)
    assert again.config == first.config
    assert again.training().trigger_word == "a cat"


def test_a_missing_variable_is_one_problem_and_hides_no_other(process: Tree, problems: Problems) -> None:
    process["datasets"][0]["folder_path"] = "${NO_SUCH_VARIABLE}/images"
    process["train"]["lrr"] = 1
    assert set(problems()) == {"datasets[0].folder_path", "train.lrr"}


def test_job_errors_are_user_errors_with_the_file_in_the_first_line(process: Tree, check: Check) -> None:
    process["train"]["lrr"] = 1
    with pytest.raises(JobError, match=r"^job\.yaml has 1 mistake\n  config\.process\[0\]\.train\.lrr: unknown key"):
        check()
