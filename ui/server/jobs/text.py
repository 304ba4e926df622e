"""Job texts: read, held against the roots, changed in places, and where their output goes."""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from toolkit.config.process import ProcessConfig, must_be_folder_name
from toolkit.config.reading.locations import Location, text_of, value_at
from toolkit.config.reading.parse import parse_file
from toolkit.config.reading.placeholders import expand_variables, fill_name, redact
from toolkit.config.reading.text_positions import nearest_position, text_positions
from toolkit.config.sample_prompt import FLAG
from toolkit.errors import JobError, UserError
from toolkit.errors import Problem as Found
from ui.server.refusal import Refusal, from_error
from ui.server.roots import Roots
from ui.server.schemas import Problem
from ui.server.words import clean

PROCESS: Location = ("config", "process", 0)
_WORDS = {"prompt", "prompts", "neg", "name", "trigger_word", "type", "arch", "default_caption", "instance_prompt"}
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_WIDTH = 10_000  # no line of the user's is folded


class TextFolder:
    """Where texts are put for the trainer's reader, which wants files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def file(self, text: str, suffix: str = ".yaml") -> Iterator[Path]:
        """A file that holds a text for the length of the block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{secrets.token_hex(8)}{suffix}"
        try:
            path.write_text(text, encoding="utf-8", newline="")
            yield path
        finally:
            path.unlink(missing_ok=True)

    def parse(self, text: str) -> dict[str, Any]:
        """The tree of a text.

        Raises:
            JobError: it is none.
        """
        with self.file(text) as path:
            return parse_file(path)


def output_folder(tree: dict[str, Any], roots: Roots) -> Path:
    """The output folder that a job asks for.

    Raises:
        Refusal: it names none, or one outside the roots.
    """
    filled, mistakes = fill_name(tree, None)
    expanded, secrets, _ = expand_variables(filled)
    name = value_in(expanded, *PROCESS, "name") or value_in(expanded, "config", "name")
    default = ProcessConfig.model_fields["training_folder"].default
    training = value_in(expanded, *PROCESS, "training_folder")
    if mistakes or not isinstance(name, str):
        raise Refusal(422, "The job needs a name. It is also the name of its output folder.", "config.name")
    try:
        must_be_folder_name(name)
    except ValueError as error:
        raise Refusal(422, str(error), "config.name") from error
    folder = Path(training if isinstance(training, str) and training else default)
    try:
        folder = folder.expanduser()
    except RuntimeError as error:
        raise Refusal(422, f"{folder}: user not found.", "training_folder") from error
    if not roots.holds(folder / name):
        raise Refusal(422, redact(roots.refusal_of(folder / name), secrets), "training_folder")
    real = roots.require(folder / name, "training_folder")
    if real in roots.folders or any(
        part.startswith(".") for part in real.relative_to(roots.root_of(real) or "/").parts
    ):
        raise Refusal(422, f"{folder / name} can't be used as an output folder. Choose another one.", "training_folder")
    return real


def outside(tree: Any, roots: Roots, text: str = "") -> list[Problem]:
    """Every path in a job that leads out of the roots, with its place in the text."""
    if not isinstance(tree, dict):
        return []
    places = text_positions(text)
    expanded, secrets, _ = expand_variables(fill_name(tree, None)[0])
    problems = []
    for location, text in _texts(expanded, ()):
        for path in _paths(location, text):
            if not roots.holds(path):
                line, column = nearest_position(location, places) or (None, None)
                where, what = key_of(text_of(location)), clean(redact(roots.refusal_of(path), secrets))
                problems.append(Problem(severity="error", where=where, what=what, line=line, column=column))
    return problems


def require_inside(tree: Any, roots: Roots) -> None:
    """Raises Refusal where a path leads out of the roots."""
    problems = outside(tree, roots)
    if problems:
        raise Refusal(422, problems)


def key_of(where: str) -> str:
    """A place in a job as the page names it: dotted, below the first process."""
    short = where.removeprefix("config.process[0].")
    return clean(re.sub(r"\[(\d+)\]", r".\1", short).lstrip("."))


def edited(text: str, edits: Mapping[str, Any]) -> str:
    """A job text with other values at dotted keys of its first process, or at `config.name`; comments stay.

    Raises:
        Refusal: it cannot be edited.
    """
    editor = YAML(typ="rt", pure=True)
    editor.preserve_quotes, editor.width = True, _WIDTH
    editor.indent(mapping=2, sequence=4, offset=2)
    try:
        tree = editor.load(text)
        for key, value in edits.items():
            place = tree if key.startswith("config.") else value_at(tree, PROCESS)
            *parents, last = key.split(".")
            for name in parents:
                part: str | int = int(name) if isinstance(place, list) else name
                if isinstance(place, dict) and place.get(part) is None:
                    place[part] = {}
                place = place[part]
            place[int(last) if isinstance(place, list) else last] = value
        buffer = io.StringIO()
        editor.dump(tree, buffer)
    except (YAMLError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Refusal(422, f"The job file can't be edited ({type(error).__name__}). Fix it first.") from error
    return buffer.getvalue()


def name_key(tree: Any) -> str:
    """The key that holds a job's name: of its first process where that has one, else of the whole job."""
    return "name" if value_in(tree, *PROCESS, "name") else "config.name"


def parsed(texts: TextFolder, text: str) -> dict[str, Any]:
    """The tree of a job text.

    Raises:
        Refusal: it is none.
    """
    try:
        return texts.parse(text)
    except JobError as error:
        raise Refusal(422, list(map(as_problem, error.problems))) from error
    except UserError as error:
        raise Refusal(422, from_error(error)) from error


def as_problem(found: Found) -> Problem:
    """A problem of the trainer's as the page names it."""
    is_place = re.fullmatch(r"line \d+, column \d+", found.where)
    return Problem(
        severity=found.severity,
        where="" if is_place else key_of(found.where),
        what=clean(found.what),
        line=found.line,
        column=found.column,
        suggestion=None if found.suggestion is None else clean(found.suggestion),
    )


def _texts(value: Any, location: Location) -> Iterator[tuple[Location, str]]:
    if isinstance(value, str):
        yield location, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*location, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, (*location, number))


def _paths(location: Location, text: str) -> Iterator[Path]:
    """The paths that a text of a job is taken for, or may be."""
    names = [part for part in location if isinstance(part, str)]
    if names and names[0] == "meta":
        return
    if (names and names[-1] in _WORDS) or "samples" in names[-1:]:
        parts = FLAG.split(text)
        for flag, value in zip(parts[1::2], parts[2::2], strict=True):
            if flag.startswith("ctrl_img"):
                yield from _as_path(value.strip())
        return
    yield from _as_path(text)


def _as_path(text: str) -> Iterator[Path]:
    if not text:
        return
    is_far = text.startswith(("/", "~", "\\")) or _DRIVE.match(text) or ".." in re.split(r"[\\/]", text) or "\0" in text
    try:
        path = Path(text).expanduser()
        if is_far or path.is_symlink() or os.path.lexists(path.parts[0] if path.parts else path):
            yield path
    except (OSError, ValueError, RuntimeError):
        if is_far:
            yield Path(text)


def value_in(tree: Any, *location: str | int) -> Any:
    """What a parsed job says at a place; None if it says nothing there."""
    try:
        return value_at(tree, location)
    except LookupError:
        return None
