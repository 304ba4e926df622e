"""toolkit.weights.text_folder"""

import json
import shutil
from pathlib import Path
from typing import Literal

import pytest

from tests.tiny import TINY
from toolkit.errors import UserError
from toolkit.weights.text_folder import read_config, read_tokenizer


def test_the_configuration_is_the_part_that_was_asked_for() -> None:
    assert read_config(TINY / "text_encoder", lambda whole: whole.get_text_config()).model_type == "qwen3"


@pytest.mark.parametrize("content", [None, "{", '{"model_type": "nothing"}'])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(
        UserError, match=rf"(?s){tmp_path}: no readable config\.json of a text encoder .*Download it again"
    ):
        read_config(tmp_path, lambda whole: whole)


def test_a_configuration_without_the_part_is_named() -> None:
    with pytest.raises(UserError, match=r"text_encoder: no readable config\.json of a text encoder"):
        read_config(TINY / "text_encoder", lambda whole: whole.vision_part)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_as_the_folder_says_unless_a_side_is_asked_for(
    tmp_path: Path, side: Literal["left", "right"]
) -> None:
    folder = shutil.copytree(TINY / "tokenizer", tmp_path / "tokenizer")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "padding_side": "left"}))
    assert read_tokenizer(folder).padding_side == "left"
    assert read_tokenizer(folder, padding_side=side).padding_side == side


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}: the tokenizer cannot be loaded"):
        read_tokenizer(tmp_path)
