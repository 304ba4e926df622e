"""What a folder holds of a text encoder besides its weights: the configuration, and the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig, AutoTokenizer

from toolkit.errors import UserError


def read_config(folder: Path, text_part: Callable[[Any], Any]) -> Any:
    """The configuration of a text encoder.

    Args:
        folder: with its `config.json`.
        text_part: from the whole configuration, which may be of a model that also sees, to that of the encoder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        return text_part(_from_folder(AutoConfig, folder))
    except Exception as error:  # what the libraries raise over a damaged file has no common name
        raise UserError(f"{folder}: no readable config.json of a text encoder ({error}). Download it again.") from error


def read_tokenizer(folder: Path, *, padding_side: Literal["left", "right"] | None = None) -> Any:
    """The tokenizer of a folder.

    Args:
        folder: with its files.
        padding_side: unset, as the folder says.

    Raises:
        UserError: there is none, or it is damaged.
    """
    options = {} if padding_side is None else {"padding_side": padding_side}
    try:
        return _from_folder(AutoTokenizer, folder, **options)
    except Exception as error:  # see above
        raise UserError(
            f"{folder}: no tokenizer can be loaded from it ({error}). Download the folder again."
        ) from error


def _from_folder(kind: Any, folder: Path, **options: str) -> Any:
    # Without a False it asks on the terminal whether to run code that the folder brings along.
    return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
