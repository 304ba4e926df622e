from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toolkit.config.reading.parse import parse_value
from toolkit.errors import JobError

Parse = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", "0.0001", "+1e-4"])
def test_every_spelling_of_a_small_number_is_a_number(text: str, parse: Parse) -> None:
    assert parse(f"lr: {text}") == {"lr": 1e-4}


@pytest.mark.parametrize("text", ["1.2.3", "e4", "12-e4", "v1e4", "2024-01-01", "1e"])
def test_what_only_resembles_a_number_stays_text(text: str, parse: Parse) -> None:
    assert parse(f"version: {text}") == {"version": text}


@pytest.mark.parametrize("name", ["job.json", "job.jsonc"])
def test_json_may_have_comments_and_last_commas_but_not_inside_texts(name: str, parse: Parse) -> None:
    text = '{\n // one\n "url": "https://a/b", /* two\n lines */ "list": [1, 2, ], "odd": "x,]",\n}'
    assert parse(text, name) == {"url": "https://a/b", "list": [1, 2], "odd": "x,]"}


def test_a_key_that_stands_twice_is_named_with_its_lines(parse: Parse) -> None:
    with pytest.raises(JobError) as caught:
        parse("train:\n  lr: 1\n  steps: 2\n  lr: 3\n")
    assert str(caught.value.problems[0]) == "line 4, column 3: `lr` is given twice in this section, first in line 2"


def test_a_key_that_stands_twice_in_json_is_named(parse: Parse) -> None:
    with pytest.raises(JobError, match="`lr`: is given twice"):
        parse('{"lr": 1, "lr": 2}', "job.json")


@pytest.mark.parametrize(
    ("text", "name", "where"),
    [
        ("a: [1, 2\nb: 3\n", "job.yaml", "line 2, column 2"),
        ("a:\n\tb: 1\n", "job.yaml", "line 2, column 1"),
        ('{"a": 1,\n "b" 2}', "job.json", "line 2, column 6"),
    ],
)
def test_a_syntax_error_has_line_and_column(text: str, name: str, where: str, parse: Parse) -> None:
    with pytest.raises(JobError) as caught:
        parse(text, name)
    assert caught.value.problems[0].where == where


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n", "word", "a: &a [*a]\n", "a: \x00\n", b"a: \xff\n"])
def test_what_is_no_job_file_is_one_plain_error(text: str | bytes, parse: Parse) -> None:
    with pytest.raises(JobError) as caught:
        parse(text)
    assert len(caught.value.problems) == 1


def test_another_file_type_is_refused(parse: Parse) -> None:
    with pytest.raises(JobError, match="must end in"):
        parse("a: 1", "job.txt")


def test_sections_that_share_an_anchor_can_be_changed_alone(parse: Parse) -> None:
    tree = parse("a: &x {lr: 1}\nb: *x\nc: {<<: *x, steps: 2}\n")
    tree["a"]["lr"] = 5
    assert tree == {"a": {"lr": 5}, "b": {"lr": 1}, "c": {"lr": 1, "steps": 2}}


def test_a_byte_order_mark_is_no_part_of_the_job(parse: Parse) -> None:
    assert parse("\ufeffa: 1\n") == {"a": 1}


def test_a_value_from_the_command_line_reads_like_one_in_a_file() -> None:
    assert [parse_value(text) for text in ("20", "1e-4", "[1, 2]", "a dog", "")] == [20, 1e-4, [1, 2], "a dog", None]


def test_a_value_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a YAML value"):
        parse_value("[1, 2")


@pytest.mark.parametrize(
    ("text", "name"),
    [('a: "C:\\users"\n', "job.yaml"), ('a: "D:\\pictures"\n', "job.yaml"), ('{"a": "C:\\q"}', "job.json")],
)
def test_backslashes_in_double_quotes_are_answered_with_advice(text: str, name: str, parse: Parse) -> None:
    with pytest.raises(JobError, match="write paths with / instead"):
        parse(text, name)
