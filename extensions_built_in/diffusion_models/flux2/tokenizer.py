"""The tokenizer of a text encoder, also from a folder that belongs to an image processor.

FLUX.2 dev's tokenizer folder names a PixtralProcessor, which needs torchvision; the tokenizer inside does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from jinja2 import TemplateError

from toolkit.errors import UserError
from toolkit.weights.text_folder import read_tokenizer

# Older processors keep the chat template in a file of their own, where the tokenizer does not look for it.
_TEMPLATE_FILES = ("chat_template.json", "processor_config.json")
_PROMPT = "a red fox"


def load_tokenizer(folder: Path, *, padding_side: Literal["left", "right"]) -> Any:
    """The tokenizer of a folder, with its chat template.

    Raises:
        UserError: no tokenizer there, or none that knows its chat template.
    """
    tokenizer = read_tokenizer(folder, padding_side=padding_side)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _template_of_processor(folder)
    if tokenizer.chat_template is None:
        raise UserError(
            f"{folder}: the tokenizer has no chat template, and prompts are encoded with one. Add chat_template.jinja "
            "from the model's own repository."
        )
    return tokenizer


def check_template(tokenizer: Any, render: Callable[[Any, str], str], folder: Path) -> None:
    """Put a prompt into the chat template, which must hold it.

    Raises:
        UserError: the template is damaged, or leaves the prompt out.
    """
    try:
        rendered = render(tokenizer, _PROMPT)
    except (TemplateError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: the chat template is damaged ({error}). Download the folder again.") from error
    if _PROMPT not in rendered:
        raise UserError(f"{folder}: the chat template leaves the prompt out. Download the folder again.")


def _template_of_processor(folder: Path) -> str | None:
    for name in _TEMPLATE_FILES:
        path = folder / name
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(f"{path}: cannot be read ({error}). Download it again.") from error
            template = content.get("chat_template") if isinstance(content, dict) else None
            if isinstance(template, str):
                return template
    return None
