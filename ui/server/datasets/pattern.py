"""Replaces in many texts. Patterns work in a process of their own: some would take longer than the universe."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from ui.server.datasets import replace_all
from ui.server.refusal import Refusal
from ui.server.words import clean

_LONGEST_S = 8.0
_room = threading.Semaphore(2)  # a page asks again with every letter of a pattern


def replaced(texts: Sequence[str], find: str, text: str, *, is_regex: bool, has_case: bool) -> list[str]:
    """The texts with every match of `find` replaced.

    Args:
        texts: the texts.
        find: what is looked for; with `is_regex` a regular expression as Python reads it.
        text: what is put there; with `is_regex` it may name groups, as `\\\\1`.
        is_regex: whether `find` is a pattern.
        has_case: whether letter case counts.

    Raises:
        Refusal: the pattern is not one, or takes too long.
    """
    if not find:
        raise Refusal(422, "Enter the text to replace.", "find")
    flags = 0 if has_case else re.IGNORECASE
    if not is_regex:
        pattern = re.compile(re.escape(find), flags)
        return [pattern.sub(lambda match: text, one) for one in texts]
    try:
        re.compile(find, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise Refusal(422, f"The pattern is not a regular expression: {error}.", "find") from error
    with _room:
        found = _answer(json.dumps({"texts": texts, "find": find, "text": text, "flags": int(flags)}))
    if "error" in found:
        raise Refusal(422, f"The replacement is not valid: {clean(str(found['error']))}.", "text")
    return [str(one) for one in found["texts"]]


def _answer(question: str) -> dict[str, Any]:
    """What the program says about a question."""
    try:
        answer = subprocess.run(
            [sys.executable, "-I", "-S", replace_all.__file__],
            input=question,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        what = f"The pattern takes longer than {_LONGEST_S:g} s. Avoid nested repeats, such as (a+)+."
        raise Refusal(422, what, "find") from None
    try:
        found: dict[str, Any] = json.loads(answer.stdout)
    except ValueError:
        raise Refusal(422, "The pattern needs too much memory. Write a simpler one.", "find") from None
    return found
