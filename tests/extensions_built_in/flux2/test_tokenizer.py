"""extensions_built_in.diffusion_models.flux2.tokenizer"""

import json
import shutil
from pathlib import Path

import pytest

from extensions_built_in.diffusion_models.flux2.tokenizer import load_tokenizer
from tests.tiny import TINY
from toolkit.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(TINY / "tokenizer", tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize("name", ["chat_template.json", "processor_config.json"])
def test_a_chat_template_in_a_file_of_the_processor_is_found(folder: Path, name: str) -> None:
    template = folder / "chat_template.jinja"
    text = template.read_text()
    template.unlink()
    (folder / name).write_text(json.dumps({"chat_template": text}))
    assert load_tokenizer(folder, padding_side="right").chat_template == text


def test_a_tokenizer_without_chat_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"has no chat template.*chat_template\.jinja"):
        load_tokenizer(folder, padding_side="right")


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer can be loaded"):
        load_tokenizer(tmp_path, padding_side="right")


def test_padding_stands_on_the_side_that_the_model_wants(folder: Path) -> None:
    assert load_tokenizer(folder, padding_side="left").padding_side == "left"
    assert load_tokenizer(folder, padding_side="right").padding_side == "right"
