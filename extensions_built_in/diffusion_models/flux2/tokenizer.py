"""The tokenizer of a text encoder, also from a folder that belongs to an image processor.

FLUX.2 dev's tokenizer folder names a PixtralProcessor, which needs torchvision; the tokenizer inside does not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from transformers import AutoTokenizer

from toolkit.errors import UserError

# Older processors keep the chat template in a file of their own, where the tokenizer does not look for it.
_TEMPLATE_FILES = ("chat_template.json", "processor_config.json")


def load_tokenizer(folder: Path, *, padding_side: Literal["left", "right"]) -> Any:
    """The tokenizer of a folder, with its chat template.

    Raises:
        UserError: no tokenizer there, or none that knows its chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side=padding_side)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{folder}: no tokenizer can be loaded from it ({error}).") from error
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _template_of_processor(folder)
    if tokenizer.chat_template is None:
        raise UserError(
            f"{folder}: the tokenizer has no chat template, and prompts are encoded with one. Add chat_template.jinja "
            "from the model's own repository."
        )
    return tokenizer


def _template_of_processor(folder: Path) -> str | None:
    for name in _TEMPLATE_FILES:
        path = folder / name
        if path.is_file():
            template = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
            if isinstance(template, str):
                return template
    return None
