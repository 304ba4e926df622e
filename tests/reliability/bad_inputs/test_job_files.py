"""Job files of every sad kind: all mistakes named with place and remedy, and misspelt keys recognised."""

from __future__ import annotations

import contextlib
import random
import string
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import run
from tests.reliability.bad_inputs.battery import attempt, expect_error, expect_result
from tests.reliability.scale import count
from tests.tiny import write_job
from toolkit.config import ProcessConfig, TrainingProcessConfig, load_job
from toolkit.config.compat.ignored_keys import ignored_in
from toolkit.config.job import JobFile, job_sections
from toolkit.config.reading.installed import find_known
from toolkit.config.reading.layout import Layout
from toolkit.config.reading.load import check_job
from toolkit.config.reading.locations import Location, value_at
from toolkit.config.reading.suggest import nearest
from toolkit.errors import JobError, UserError
from toolkit.section import Section, section_of

KIND = "job files"
GOOD = """\
job: extension
config:
  name: cat
  process:
    - type: sd_trainer
      training_folder: {output}
      model: {{arch: flux2_tiny, name_or_path: assets/flux2_tiny}}
      network: {{type: lora}}
      datasets: [{{folder_path: assets/demo_dataset}}]
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[3])


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Callable[[], object]]:
    """Writes a job file; the result reads it."""

    def write(text: str | bytes, name: str = "job.yaml", **options: Any) -> Callable[[], object]:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return lambda: load_job(path, **options)

    return write


def added(line: str) -> str:
    """The good job with a line more in its process."""
    return GOOD.format(output="output") + f"      {line}\n"


def laughs(kind: str, depth: int = 12) -> str:
    """Nine times the one before, on and on: some text that stands for 9^12 values."""
    lines = [f"a0: &a0 {'[x]' if kind == 'list' else '{x: 1}'}"]
    for level in range(1, depth):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        if kind == "list":
            lines.append(f"a{level}: &a{level} [{inner}]")
        elif kind == "keys":
            lines.append(f"a{level}: &a{level} {{{', '.join(f'k{i}: *a{level - 1}' for i in range(9))}}}")
        else:
            lines.append(f"a{level}: &a{level} {{<<: [{inner}]}}")
    return "\n".join(lines) + "\n"


# What is in the file -> words of the error.
YAML: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "comments only": ("# nothing\n", "is empty"),
    "list": ("- job\n", "is not a mapping"),
    "word": ("extension", "is not a mapping"),
    "utf-16": ("job: extension".encode("utf-16"), "save the file as UTF-8"),
    "latin-1": ("name: Fuß".encode("latin-1"), "save the file as UTF-8"),
    "binary": (bytes(range(256)), "save the file as UTF-8"),
    "zero byte": ("job: a\0b", "not allowed"),
    "tab": ("config:\n\tname: x\n", "line 2"),
    "unclosed bracket": ("config: [1, 2\n", "line"),
    "unclosed quote": ('config: "abc\n', "line"),
    "two documents": ("job: a\n---\njob: b\n", "line 2"),
    "key twice": ("job: a\njob: b\n", "is given twice"),
    "key that is a list": ("? [a]\n: 1\n", "unhashable key"),
    "unknown alias": ("job: *x\n", "undefined alias"),
    "alias of itself": ("job: &a [*a]\n", "recursive"),
    "merge of a number": ("job: {<<: 3}\n", "expected a mapping"),
    "laughs in lists": (laughs("list"), "use fewer"),
    "laughs in mappings": (laughs("keys"), "use fewer"),
    "laughs in merges": (laughs("merge"), "use fewer"),
    "20,000 brackets": ("a: " + "[" * 20_000, "levels deep"),
    "20,000 braces": ("{" * 20_000, "levels deep"),
    "10 MB": (b"# " + b"x" * 10_000_000, "is it the right file?"),
    "python object": ("job: !!python/object/apply:os.system [touch canary]\n", "tag"),
    "python name": ("job: !!python/name:os.system\n", "tag"),
    "python tuple": ("job: !!python/tuple [1]\n", "tag"),
    "own tag": ("job: !secret x\n", "tag"),
    "set": ("job: !!set {a}\n", "tag"),
    "bytes": ("job: !!binary aGk=\n", "tag"),
    "int that is none": ("job: !!int abc\n", "put it in quotes to make it a string"),
    "bool that is none": ("job: !!bool maybe\n", "put it in quotes to make it a string"),
    "float that is none": ("job: !!float x\n", "put it in quotes to make it a string"),
    "0b_": ("job: 0b_\n", "put it in quotes to make it a string"),
    "number of 5000 digits": ("job: " + "9" * 5000, "put it in quotes to make it a string"),
    "half a character": ('job: "\\ud800"\n', "write the character itself"),
    "html": ("<!DOCTYPE html>\n<html>\n", "job"),
    "pickle": (b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.", "save the file as UTF-8"),
    "20,000 unknown keys": ("".join(f"k{i}: 1\n" for i in range(20_000)), "more mistakes are not shown"),
    "unknown key of 900 letters": (f"{'k' * 900}: 1\n", "unknown key"),
}
JSON: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "line 1"),
    "cut": ('{"job": "extension", "config": {', "line 1"),
    "number of 5000 digits": ('{"job": ' + "9" * 5000 + "}", "digits"),
    "100,000 brackets": ("[" * 100_000, "nested too deeply"),
    "half a character": ('{"job": "\\ud800"}', "write the character itself"),
    "key twice": ('{"job": 1, "job": 2}', "is given twice"),
    "comments without end": ("/* " * 80_000, "line 1"),
    "20,000 keys twice": ("{" + ",".join(f'"k{i % 10_000}":1' for i in range(20_000)) + "}", "is given twice"),
    "bytes": (bytes(range(256)), "save the file as UTF-8"),
}


@pytest.mark.parametrize("name", YAML)
def test_a_file_that_is_no_job_is_named_with_the_place(name: str, load: Callable[..., Any], tmp_path: Path) -> None:
    content, words = YAML[name]
    # A file of the largest size that is read takes YAML two seconds on a quick machine.
    text = expect_error(KIND, load(content), str(tmp_path), words, cpu_limit_s=6.0 if "unknown keys" in name else 2.0)
    assert "Traceback" not in text


@pytest.mark.parametrize("name", JSON)
def test_a_json_file_that_is_no_job_is_named_with_the_place(
    name: str, load: Callable[..., Any], tmp_path: Path
) -> None:
    content, words = JSON[name]
    outcome = attempt(KIND, load(content, "job.json"))
    assert isinstance(outcome, UserError)
    assert str(tmp_path) in str(outcome)
    assert words in str(outcome)


# A line of the process -> where the mistake is said to be, and what.
VALUES: dict[str, tuple[str, str]] = {
    "train: {lr: .nan}": ("train.lr", "a finite number"),
    "train: {lr: .inf}": ("train.lr", "a finite number"),
    "train: {lr: -1e-4}": ("train.lr", "a number above 0"),
    "train: {lr: 0}": ("train.lr", "a number above 0"),
    "train: {lr: 1e-4s}": ("train.lr", "a number"),
    "train: {lr: '1,5e-4'}": ("train.lr", "a number"),
    "train: {lr: 1e400}": ("train.lr", "a finite number"),
    "train: {steps: 1k}": ("train.steps", "a whole number"),
    "train: {steps: 2.5}": ("train.steps", "a whole number"),
    "train: {steps: 0}": ("train.steps", "at least 1"),
    "train: {steps: -5}": ("train.steps", "at least 1"),
    "train: {steps: 3 epochs}": ("train.steps", "a whole number"),
    "train: {steps: true}": ("train.steps", "a number"),
    "train: {steps: [1]}": ("train.steps", "a whole number"),
    "train: {steps: {a: 1}}": ("train.steps", "a whole number"),
    "train: {dtype: float8}": ("train.dtype", "Choose"),
    "train: {optimizer: adamw9bit}": ("train.optimizer", "Did you mean"),
    "train: {loss_type: mess}": ("train.loss_type", "Did you mean `mse`"),
    "train: {gradient_checkpointing: maybe}": ("train.gradient_checkpointing", "true or false"),
    "train: 5": ("train", "keys with values"),
    "train: [steps]": ("train", "keys with values"),
    "train: text": ("train", "keys with values"),
    "save: {save_every: 10 min}": ("save.save_every", "a whole number"),
    "save: {max_step_saves_to_keep: -1}": ("save.max_step_saves_to_keep", "at least 0"),
    "sample: {width: 1024px}": ("sample.width", "a whole number"),
    "sample: {width: 99999}": ("sample.width", "at most 8192"),
    "sample: {prompts: text}": ("sample.prompts", "a list"),
    "sample: {prompts: ['a --w']}": ("sample.prompts", "needs a value"),
    "sample: {prompts: ['a --zz 3']}": ("sample.prompts", "unknown"),
    "sample: {samples: [{prompt: a, ctrl_img: /no/such.png}]}": ("sample.samples[0].ctrl_img", "no file"),
    "training_folder: 5": ("training_folder", "a path"),
    'training_folder: "a\\0b"': ("training_folder", "zero byte"),
    f"training_folder: {'x' * 300}": ("training_folder", "cannot be a path"),
    "training_folder: ~nosuchuser/x": ("training_folder", "Write the full path"),
    "training_seed: -1": ("training_seed", "write 0 or a larger number"),
    "device: gpu": ("device", "Choose"),
    f"name: {'x' * 300}": ("name", "at most 200 bytes"),
    "name: ..": ("name", "cannot be a folder name"),
    "name: a/b": ("name", "cannot be a folder name"),
    'name: "a\\nb"': ("name", "cannot be a folder name"),
    "trigger_word: [a]": ("trigger_word", "text"),
    "trigger_word: ${NO_SUCH_VARIABLE}": ("trigger_word", "is not set"),
    "trigger_word: ${}": ("trigger_word", "is not set"),
    "log_dir: [a]": ("log_dir", "a path"),
    "logging: {log_every: 0}": ("logging.log_every", "at least 1"),
}
DATASETS: dict[str, tuple[str, str]] = {
    "folder_path: 5": ("folder_path", "a path"),
    "folder_path: /no/such/folder": ("folder_path", "no folder"),
    "folder_path: README.md": ("folder_path", "neither a folder nor"),
    "folder_path: ''": ("folder_path", "is empty"),
    f"folder_path: {'x' * 5000}": ("folder_path", "cannot be a path"),
    'folder_path: "a\\0b"': ("folder_path", "zero byte"),
    "folder_path: ~nosuchuser/x": ("folder_path", "Write the full path"),
    "caption_ext: a/b": ("caption_ext", "write one such as txt"),
    "caption_ext: .": ("caption_ext", "write one such as txt"),
    "caption_dropout_rate: 5%": ("caption_dropout_rate", "a number"),
    "caption_dropout_rate: 5": ("caption_dropout_rate", "at most 1"),
    "resolution: 1024x768": ("resolution", "a whole number"),
    "resolution: [512, big]": ("resolution", "a whole number"),
    "resolution: 4": ("resolution", "at least 16"),
    "resolution: []": ("resolution", "at least 1"),
    "num_repeats: many": ("num_repeats", "a whole number"),
    "control_path: /no/such/folder": ("control_path", "no folder"),
    "control_transparent_color: [0, 0, 300]": ("control_transparent_color", "at most 255"),
}


@pytest.mark.parametrize("line", VALUES, ids=lambda line: line[:40])
def test_a_wrong_value_is_named_with_its_key_and_what_it_needs(line: str, load: Callable[..., Any]) -> None:
    where, words = VALUES[line]
    text = GOOD.format(output="output")
    if line.startswith("training_folder"):
        text = text.replace("      training_folder: output\n", "")
    expect_error(KIND, load(text + f"      {line}\n"), f"config.process[0].{where.split('.')[0]}", where, words)


@pytest.mark.parametrize("line", DATASETS, ids=lambda line: line[:40])
def test_a_wrong_value_of_a_dataset_is_named_with_its_key(line: str, load: Callable[..., Any]) -> None:
    where, words = DATASETS[line]
    extra = line if line.startswith("folder_path") else f"folder_path: assets/demo_dataset, {line}"
    text = GOOD.format(output="output").replace("folder_path: assets/demo_dataset", extra)
    expect_error(KIND, load(text), f"datasets[0].{where}", words)


OVERRIDES = ("steps", "=3", "train..=3", "train.steps=[" + "[" * 5000, "train.steps=0b_", "datasets.7.num_repeats=1")


@pytest.mark.parametrize("override", [*OVERRIDES, "train.lr=!!python/name:os.system"], ids=lambda text: text[:30])
def test_a_wrong_override_is_named(override: str, load: Callable[..., Any]) -> None:
    expect_error(KIND, load(GOOD.format(output="output"), overrides=[override]), "mistake")


NAMES = ["", ".", "..", "/", "x" * 5000, "~nosuchuser/x", "a\0b", "job.pt", "/dev/zero", "/dev/zero.yaml", "\udcff"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_a_job_file_that_cannot_be_is_an_error(name: str) -> None:
    expect_error(KIND, lambda: load_job(name), "job")


@pytest.mark.parametrize("content", [b"A=\xff\xfe", b"A=a\0b", b"\0" * 100, b"= = =\n'\n", bytes(range(256))])
def test_a_broken_env_file_is_named_or_passed_over(content: bytes, load: Callable[..., Any], tmp_path: Path) -> None:
    text = GOOD.format(output="output").replace("assets", str(Path("assets").resolve()))
    with contextlib.chdir(tmp_path):
        (tmp_path / ".env").write_bytes(content)
        outcome = attempt(KIND, load(text))
    if isinstance(outcome, UserError):
        assert ".env" in str(outcome)
        assert "Fix or remove it" in str(outcome)


# Every key misspelt


def misspellings(key: str, edits: int, draw: random.Random) -> Iterator[str]:
    """Ways to mistype a key."""
    for _ in range(count(1, long=3)):
        text = key
        for _ in range(edits):
            place, letter = draw.randrange(len(text)), draw.choice(string.ascii_lowercase + "_")
            swapped = text[:place] + text[place : place + 2][::-1] + text[place + 2 :]
            left, right = text[:place], text[place + 1 :]
            text = draw.choice([left + right or "x", left + letter + text[place:], left + letter + right, swapped])
        yield text


@pytest.mark.parametrize("edits", [1, 2])
def test_of_all_keys_misspelt_at_least_95_in_100_are_recognised(edits: int) -> None:
    draw, tried, missed = random.Random(edits), 0, []
    for section in job_sections().values():
        known = (*section.model_fields, *section.aliases, *ignored_in(section))
        for key in (*section.model_fields, *section.aliases):
            for typed in misspellings(key, edits, draw):
                if typed not in known and len(key) > 2 * edits:
                    tried += 1
                    missed += [] if nearest(typed, known) == key else [(typed, key)]
    assert tried > 300
    assert len(missed) <= 0.05 * tried, f"{len(missed)} of {tried}: {missed[:20]}"


def every_place() -> list[tuple[Location, type[Section]]]:
    """Where each section of a job may stand."""
    found: list[tuple[Location, type[Section]]] = []

    def walk(section: type[Section], location: Location) -> None:
        found.append((location, section))
        for key, field in section.model_fields.items():
            inner, is_list = section_of(field.annotation)
            inner = TrainingProcessConfig if inner is ProcessConfig else inner
            if inner is not None:
                walk(inner, (*location, key, 0) if is_list else (*location, key))

    walk(JobFile, ())
    return found


def job_with(location: Location, key: str, value: object) -> dict[str, Any]:
    """The good job with a value at a place; sections on the way are made."""
    tree: dict[str, Any] = yaml.safe_load(GOOD.format(output="output"))
    place: Any = tree
    for part in location:
        if isinstance(place, list) and not place:
            place.append({"prompt": "a"} if "sample" in str(location) else {})
        elif isinstance(place, dict) and place.get(part) is None:
            following = location[location.index(part) + 1 :]
            place[part] = [] if following and following[0] == 0 else {}
        place = place[part]
    place[key] = value
    return tree


PLACES = [(location, section, key) for location, section in every_place() for key in section.model_fields]


def test_every_key_misspelt_is_an_error_that_names_its_place() -> None:
    known = find_known()
    for location, section, key in PLACES:
        typed = f"{key[:1]}q{key[1:]}"
        assert typed not in section.model_fields
        tree = job_with(location, typed, 1)
        text = expect_error("misspelt keys", partial(check_job, tree, path=Path("job.yaml"), known=known), typed)
        assert "unknown key" in text


JUNK = ({"a": 1}, [["\x07", None]], "\x1b", float("nan"))


def test_no_key_takes_a_value_of_another_type_without_a_word() -> None:
    known = find_known()
    for location, section, key in PLACES:
        for value in JUNK:
            tree = job_with(location, key, value)
            outcome = attempt("wrong types", partial(check_job, tree, path=Path("job.yaml"), known=known))
            if section.model_fields[key].annotation in (int, float, bool) and not isinstance(value, int):
                assert isinstance(outcome, JobError), (location, key, value)


SAMPLE = {
    "no such file": ("nothing.yaml", 2),
    "not utf-8": (b"\xff\xfe", 2),
    "bomb": (laughs("list").encode(), 2),
    "unknown key": (added("trian: {}").encode(), 2),
    "nested": (b"[" * 5000, 2),
}


@pytest.mark.parametrize("name", SAMPLE)
def test_run_ends_with_2_and_no_traceback(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, code = SAMPLE[name]
    path = tmp_path / "job.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    assert run.main([str(path), "--check"]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert str(path) in shown.err


def test_a_good_job_is_good(tmp_path: Path, load: Callable[..., Any]) -> None:
    expect_result(KIND, load(GOOD.format(output="output")))
    expect_result(KIND, lambda: load_job(write_job(tmp_path, name="tiny")))
    tree: dict[str, Any] = {"config": {"process": [{"train": {}}]}}
    assert value_at(tree, next(iter(Layout().mappings(tree)))[0]) is tree
