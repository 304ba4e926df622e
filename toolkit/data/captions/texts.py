"""The captions of one image, as JSON gives them: one text or several, and short forms of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.config.reading.parse import is_whole_text
from toolkit.errors import UserError

LONG = ("caption", "captions", "text", "prompt")
SHORT = ("caption_short", "short_caption")
TAGS = "tags"


class CaptionError(UserError):
    """A caption that cannot be read as text; the message gives the reason but does not name the file."""


@dataclass(frozen=True)
class CaptionTexts:
    """What is written about an image.

    Attributes:
        long: its captions, of which one is drawn at each use; none is blank.
        short: its short captions; none is blank.
    """

    long: tuple[str, ...] = ()
    short: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.long or self.short)


def texts_of(entry: Mapping[str, Any]) -> CaptionTexts:
    """The captions in an object such as `{"caption": "a cat", "caption_short": "cat"}`.

    The first of `LONG` that is there counts. Tags are added to it behind a comma, as in kohya's trainer, or are the
    caption if there is none.

    Raises:
        CaptionError: one of them is neither a text nor a list of texts.
    """
    long, short, tags = (_first(entry, names) for names in (LONG, SHORT, (TAGS,)))
    if tags:
        joined = ", ".join(tags)
        long = tuple(f"{text}, {joined}" for text in long) or (joined,)
    return CaptionTexts(long, short)


def texts_in(content: Any) -> CaptionTexts:
    """The captions in the content of a JSON file beside an image: a text, a list of texts, or an object.

    Raises:
        CaptionError: it is something else.
    """
    if isinstance(content, Mapping):
        if not any(name in content for name in (*LONG, *SHORT, TAGS)):
            keys = ", ".join(map(str, list(content)[:5])) or "none"
            raise CaptionError(f"has no key {', '.join(LONG)}, {', '.join(SHORT)} or {TAGS}; its keys are: {keys}")
        return texts_of(content)
    return CaptionTexts(_texts(content, "the file"))


def unused_keys(entry: Mapping[str, Any], *, used: tuple[str, ...] = ()) -> list[str]:
    """The keys of an object that say nothing to the training, apart from those in `used`."""
    long = next((name for name in LONG if entry.get(name) is not None), None)
    short = next((name for name in SHORT if entry.get(name) is not None), None)
    return [str(key) for key in entry if key not in (long, short, TAGS, *used) and entry[key] is not None]


def _first(entry: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    name = next((name for name in names if entry.get(name) is not None), None)
    return () if name is None else _texts(entry[name], f"`{name}`")


def _texts(value: Any, what: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise CaptionError(f"{what} must be a text or a list of texts")
    if any("\0" in one or not is_whole_text(one) for one in values):
        raise CaptionError(
            f"{what} contains a zero byte or half a character (such as \\ud800); write the characters themselves"
        )
    return tuple(dict.fromkeys(text for one in values if (text := plain(one))))


def plain(text: str) -> str:
    """Strip a text and the ends of its lines of white space, and make all line breaks `\\n`."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
