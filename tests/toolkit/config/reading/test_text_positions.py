"""Where in a job text what is said about a key stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolkit.config import load_job_text
from toolkit.config.reading.parse import parse_text
from toolkit.config.reading.text_positions import located, nearest_position, text_positions
from toolkit.errors import JobError, Problem

TEXT = """\
# of a job
config:
  process:
    - train:
        lr: 1
      datasets:
        - {folder_path: /images/cats, resolution: 512}
        - folder_path: /images
"""
TREE = parse_text(Path("job.yaml"), TEXT)


def test_keys_and_entries_have_the_place_where_they_begin() -> None:
    places = text_positions(TEXT)
    assert places["config",] == (2, 1)
    assert places["config", "process", 0, "train", "lr"] == (5, 9)
    assert places["config", "process", 0, "datasets", 0, "resolution"] == (7, 39)
    assert places["config", "process", 0, "datasets", 1] == (8, 11)


def test_json_with_comments_has_places_too() -> None:
    text = '{ // of a job\n  "config": {"name": "a",\n    "process": [],},\n}'
    assert text_positions(text, is_json=True)["config", "process"] == (3, 5)


@pytest.mark.parametrize("text", ["a: [", "", "- " * 100, "\0", "a: &x [*x]"])
def test_what_is_no_job_has_no_places_and_raises_nothing(text: str) -> None:
    assert len(text_positions(text)) <= 2


def test_what_is_not_there_has_the_place_of_its_section() -> None:
    places = text_positions(TEXT)
    assert nearest_position(("config", "process", 0, "train", "steps"), places) == (4, 7)
    assert nearest_position(("meta",), places) is None


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("config.process[0].train.lr", 5),
        ("train.lr", 5),
        ("datasets[1].resolution", 8),
        ("/images/cats/1.png", 7),
        ("/images/dogs/1.png", 8),
        ("line 3, column 2", 3),
        ("memory", None),
        ("", None),
        ("a text of [many words", None),
    ],
)
def test_a_problem_gets_its_line_by_key_or_by_file(where: str, line: int | None) -> None:
    assert located(Problem(where, "is wrong"), text_positions(TEXT), TREE, 0).line == line


def test_a_text_that_is_not_on_disk_is_read_as_a_file_would_be(tmp_path: Path) -> None:
    source = tmp_path / "job.yaml"
    with pytest.raises(JobError, match="stepz") as raised:
        load_job_text(TEXT.replace("lr: 1", "stepz: 1"), source)
    (problem,) = (problem for problem in raised.value.problems if problem.where.endswith("stepz"))
    assert (problem.line, problem.suggestion) == (5, "steps")
    assert raised.value.source == str(source)
    with pytest.raises(JobError) as raised:
        load_job_text("config: [", source)
    assert raised.value.problems[0].line == 2 or raised.value.problems[0].line == 1
    with pytest.raises(JobError, match="is empty"):
        load_job_text("", source)
    with pytest.raises(JobError, match="MB"):
        load_job_text("# " * 200_000, source)
    with pytest.raises(JobError, match="`config`"):
        load_job_text(json.dumps([]), source.with_suffix(".json"))
