"""Replaces `[name]` and `${VAR}` in job files, and redacts the values of `${VAR}` from output."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.config.reading.locations import Location
from toolkit.errors import JobError, Problem

VARIABLE = re.compile(r"\$\{([^}]*)\}")
SHORTEST_SECRET = 4  # replacing shorter values would only make the output unreadable
SECRET_NAME = re.compile(r"(^|_)(token|api_?key|secret|password)$", re.IGNORECASE)
HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")


def load_env_file(folder: Path) -> None:
    """Set the environment variables in `.env` in `folder`, if there is one. Variables already set are kept.

    Raises:
        JobError: the file cannot be read, is not UTF-8, or contains a zero byte.
    """
    path = folder / ".env"
    if not path.exists():
        return
    import dotenv  # 10 ms, for the few who have such a file

    try:
        dotenv.load_dotenv(path, override=False)
    except (OSError, ValueError) as error:
        what = f"cannot be read ({error}); it must have lines NAME=value in UTF-8. Fix or remove it"
        raise JobError(str(path), [Problem(str(path), what)]) from error


def secrets_of_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables whose names say that they are secrets, such as HF_TOKEN and WANDB_API_KEY."""
    environment = os.environ if environment is None else environment
    return {name: value for name, value in environment.items() if SECRET_NAME.search(name) and len(value) >= 8}


def written_secrets(tree: dict[str, Any]) -> list[tuple[Location, str]]:
    """The locations at which a job file itself contains a secret, which would be stored with every copy of the file."""
    found: list[tuple[Location, str]] = []

    def look(text: str, location: Location) -> str:
        is_named_so = bool(location) and SECRET_NAME.search(str(location[-1])) and not VARIABLE.search(text)
        if HUB_TOKEN.search(text) or (is_named_so and text):
            what = (
                "looks like a secret, but job files are copied and shared. Write `${NAME}` here, and set the variable "
                "in .env"
            )
            found.append((location, what))
        return text

    _map_texts(tree, look)
    return found


def fill_name(tree: dict[str, Any], name: str | None) -> tuple[dict[str, Any], list[Problem]]:
    """Replace `[name]` everywhere by `name`, or by `config.name` if `name` is None.

    If the job has no `config.name`, it becomes `name`. If the job has another `config.name`, and uses `[name]` nowhere
    except in `meta` (which names no file), then `name` would have no effect, which is a problem.

    Returns:
        The new tree and the problems.
    """
    config = tree.get("config")
    if not isinstance(config, dict):
        return tree, []  # validation reports that it is missing
    if config.get("name") is None and name is not None:
        config = {"name": name, **{key: value for key, value in config.items() if key != "name"}}
        tree = {**tree, "config": config}
    own = config.get("name")
    is_asked = "[name]" in json.dumps({**tree, "meta": None}, ensure_ascii=False, default=str)
    if name is not None and isinstance(own, str) and not is_asked and name != own:
        what = f'is "{own}", so `--name {name}` would have no effect'
        return tree, [Problem("config.name", f'{what}. Write `name: "[name]"` here, or leave --name out')]
    name = name if name is not None else own
    if not isinstance(name, str):
        return tree, []
    if name == config.get("name") and "[name]" in name:
        return tree, [Problem("config.name", "contains `[name]`, which has no value: give one with --name")]
    return _map_texts(tree, lambda text, _: text.replace("[name]", name)), []


def expand_variables(
    tree: dict[str, Any], environment: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, str], list[tuple[Location, str]]]:
    """Replace every `${VAR}` by the value of the environment variable.

    Returns:
        The new tree, the values used by variable name, and the problems with their locations.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, str] = {}
    problems: list[tuple[Location, str]] = []

    def expand(text: str, location: Location) -> str:
        def value(match: re.Match[str]) -> str:
            variable = match[1].strip()
            if variable not in environment:
                problems.append((location, f"the environment variable {variable or '${}'} is not set"))
                return match[0]
            values[variable] = environment[variable]
            return environment[variable]

        return VARIABLE.sub(value, text)

    return _map_texts(tree, expand), values, problems


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """`text` with every value of `secrets` that has at least 4 characters replaced by `${ITS_NAME}`."""
    for variable, value in sorted(secrets.items(), key=lambda item: len(item[1]), reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"${{{variable}}}")
    return text


def redact_texts(value: Any, secrets: Mapping[str, str]) -> Any:
    """A copy of a tree with every string value redacted; keys, numbers and booleans stay as they are."""
    return _map_texts(value, lambda text, _: redact(text, secrets))


def _map_texts(value: Any, change: Callable[[str, Location], str], location: Location = ()) -> Any:
    if isinstance(value, str):
        return change(value, location)
    if isinstance(value, dict):
        return {key: _map_texts(inner, change, (*location, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_map_texts(inner, change, (*location, index)) for index, inner in enumerate(value)]
    return value
