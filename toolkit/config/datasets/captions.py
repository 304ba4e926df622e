"""How the captions of a dataset are read and varied."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from toolkit.config.datasets.source import DatasetSource
from toolkit.config.remarks import KeyContext, Notice, OnlyWith
from toolkit.section import Shown

_WITH_CAPTIONS = OnlyWith(
    "with captions, which `train.unload_text_encoder: true` alone turns off and `concept_slider` does not read",
    lambda context: context.process.uses_captions,
)
_WITH_VARIANTS = OnlyWith(
    "with `shuffle_tokens`, `token_dropout_rate` or `random_triggers`", lambda context: context.section.varies_captions
)
_WITH_TOKENS = OnlyWith(
    "with `shuffle_tokens` or `token_dropout_rate`",
    lambda context: context.section.shuffle_tokens or context.section.token_dropout_rate > 0,
)
_WITH_TRIGGERS = OnlyWith("with `random_triggers`", lambda context: bool(context.section.random_triggers))
_WITH_SHORT = OnlyWith(
    "without `train.short_and_long_captions`, which trains with both",
    lambda context: not context.process.train.short_and_long_captions,
)


WORD_FILE = ".txt"


def with_dot(extension: str) -> str:
    """A file extension with its dot.

    Raises:
        ValueError: it is not one.
    """
    if extension == "." or any(sign in extension for sign in "/\\\0"):
        raise ValueError(f'"{extension}" is not a file extension: write one such as txt')
    return extension if extension.startswith(".") else f".{extension}"


def _pairs(replacements: Collection[str]) -> Collection[str]:
    for entry in replacements:
        if "|" not in entry or entry.startswith("|"):
            raise ValueError(f'"{entry}" does not say what to replace with what: write it as "from|to"')
    return replacements


def _as_words(value: Any) -> Any:
    return ([value] if value else []) if isinstance(value, str) else value


def _more_than_there_are(context: KeyContext) -> str | None:
    words = context.section.random_triggers
    if not words or context.value <= len(words) or any(word.endswith(WORD_FILE) for word in words):
        return None
    return f"there are only {len(words)} `random_triggers`, so that up to {len(words)} are added"


class DatasetCaptions(DatasetSource):
    """The keys of `datasets` about captions."""

    caption_ext: Annotated[str, AfterValidator(with_dot), Shown(label="Caption file extension")] = Field(
        ".txt",
        min_length=1,
        description="Extension of the caption files, with or without the dot. json: each file is JSON: a text, a list "
        "of texts, or `{caption: text or list, caption_short: text or list}`.",
    )
    caption_per_line: Annotated[bool, _WITH_CAPTIONS, Shown(label="One caption per line")] = Field(
        False, description="Each line of a caption file is a separate caption; one is drawn at each use."
    )
    default_caption: Annotated[str | None, _WITH_CAPTIONS] = Field(
        None, description='Caption for images whose caption file is missing or blank. "": an empty caption.'
    )
    caption_dropout_rate: Annotated[float, _WITH_CAPTIONS, Shown(label="Caption dropout")] = Field(
        0.05, ge=0, le=1, description="Share of examples trained with an empty caption, so that guidance keeps working."
    )
    use_short_captions: Annotated[bool, _WITH_CAPTIONS, _WITH_SHORT, Shown(level="expert")] = Field(
        False, description="Train with the `caption_short` of each image, from JSON, instead of its `caption`."
    )
    trigger_word: str | None = Field(
        None, description="Trigger word for this dataset. Unset: the process's `trigger_word`."
    )
    replacements: Annotated[
        tuple[str, ...],
        BeforeValidator(_as_words, json_schema_input_type=str | list[str]),
        AfterValidator(_pairs),
        _WITH_CAPTIONS,
        Shown(level="expert"),
    ] = Field((), description="Texts to replace in captions, each as `from|to`.")
    shuffle_tokens: Annotated[bool, _WITH_CAPTIONS, Shown(label="Shuffle tags")] = Field(
        False, description="Shuffle the comma-separated parts of a caption at each use."
    )
    token_dropout_rate: Annotated[float, _WITH_CAPTIONS, Shown(label="Tag dropout")] = Field(
        0.0, ge=0, lt=1, description="Share of a caption's comma-separated parts that are dropped, drawn at each use."
    )
    keep_tokens: Annotated[int, _WITH_TOKENS, Shown(label="Tags kept in place")] = Field(
        0, ge=0, description="Number of parts at the beginning that are neither shuffled nor dropped."
    )
    random_triggers: Annotated[
        tuple[str, ...],
        BeforeValidator(_as_words, json_schema_input_type=str | list[str]),
        _WITH_CAPTIONS,
        Shown(label="Random trigger words", level="expert"),
    ] = Field(
        (),
        description="Words, some of which are drawn at each use and added to captions. If a `.txt` file is named "
        "here, each of its lines is a word.",
    )
    random_triggers_max: Annotated[int, _WITH_TRIGGERS, Notice(_more_than_there_are), Shown(level="expert")] = Field(
        1, ge=1, description="Largest number of `random_triggers` in a caption; at least one is added."
    )
    caption_variants: Annotated[int, _WITH_VARIANTS, Shown(label="Variants of a caption", level="expert")] = Field(
        8,
        ge=2,
        le=1000,
        description="Number of variants of each caption that are made and encoded before training, so that the text "
        "encoder can be freed. One of them is drawn at each use.",
    )

    @property
    def varies_captions(self) -> bool:
        """Whether a caption has several variants."""
        return self.shuffle_tokens or self.token_dropout_rate > 0 or bool(self.random_triggers)
