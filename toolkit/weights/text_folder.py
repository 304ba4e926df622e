"""Reads the files of a text encoder other than its weights: the configuration and the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from toolkit.errors import UserError


def read_config(folder: Path, text_part: Callable[[Any], Any]) -> Any:
    """The configuration of a text encoder.

    Args:
        folder: folder with the text encoder's `config.json`.
        text_part: selects the text encoder's part of the configuration, which may be that of a vision-language model.

    Raises:
        UserError: the configuration is missing or damaged.
    """
    try:
        return text_part(_from_folder("AutoConfig", folder))
    except Exception as error:  # the exceptions that libraries raise for a damaged file have no common base
        raise UserError(f"{folder}: no readable config.json of a text encoder ({error}). Download it again.") from error


def read_tokenizer(folder: Path, *, padding_side: Literal["left", "right"] | None = None) -> Any:
    """The tokenizer of a folder.

    Args:
        folder: folder with the tokenizer's files.
        padding_side: side on which prompts are padded; None for the side in the tokenizer's files.

    Raises:
        UserError: the tokenizer is missing or damaged.
    """
    options = {} if padding_side is None else {"padding_side": padding_side}
    try:
        return _from_folder("AutoTokenizer", folder, **options)
    except Exception as error:  # see above
        raise UserError(f"{folder}: the tokenizer cannot be loaded ({error}). Download the folder again.") from error


def _from_folder(kind: str, folder: Path, **options: str) -> Any:
    import transformers  # takes a second, and is not needed while all texts are cached

    # Without an explicit False it asks on the terminal whether to run code that is in the folder.
    return getattr(transformers, kind).from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **options
    )
