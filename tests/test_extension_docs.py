"""docs/extensions.md, carried out in a copy of the trainer: its files are written and its commands run.

Each command is a Python of its own; the one that collects the tests of the model loads torch, which takes seconds.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOC = (ROOT / "docs" / "extensions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
FILES = {text.partition("\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind}
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]
CODE = ("toolkit", "jobs", "extensions_built_in", "extensions/example_model", "extensions/example_process", "tests")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trainer with the files of the document."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "assets").symlink_to(ROOT / "assets")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def carried_out(command: str, checkout: Path) -> str:
    """What a command prints."""
    words = [sys.executable, *shlex.split(command, comments=True)[1:]]
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert "broken" not in done.stderr
    return done.stdout


def test_every_file_of_the_document_says_where_it_belongs() -> None:
    assert FILES
    assert all(re.fullmatch(r"extensions/\w+/\w+\.(py|yaml)", name) for name in FILES), list(FILES)
    assert all(command.startswith("python ") for command in COMMANDS), COMMANDS


def test_the_model_of_the_document_is_listed(checkout: Path) -> None:
    assert "my_model" in carried_out("python run.py --list-models", checkout)


def test_the_commands_of_the_document_work(checkout: Path) -> None:
    for command in COMMANDS:
        if "example_" in command:  # the toy, which trains for minutes; tests/contract trains it in seconds
            assert all((ROOT / word).exists() for word in shlex.split(command, comments=True) if "/" in word)
        elif "pytest" in command:
            assert "[my_model" in carried_out(f"{command} --collect-only -q", checkout)
        else:
            carried_out(command, checkout)
    assert (checkout / "output" / "my_job" / "text.txt").read_text(encoding="utf-8") == "Good evening"


def test_the_process_of_the_document_refuses_what_it_does_not_know(checkout: Path) -> None:
    command = [sys.executable, "run.py", "extensions/my_process/job.yaml", "--set", "txt=3", "--set", "text=4"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "config.process[0].txt: unknown key (found 3). Did you mean `text`?" in done.stderr
    assert "config.process[0].text: needs text (put a number in quotes to make it text) (found 4)" in done.stderr


def test_the_example_process_does_its_work(checkout: Path) -> None:
    carried_out("python run.py extensions/example_process/job.yaml", checkout)
    words = (checkout / "output" / "example_process" / "words.txt").read_text(encoding="utf-8")
    assert words.startswith("24 a\n")
