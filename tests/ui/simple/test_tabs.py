"""Two tabs of the simple page on one name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from PIL import Image

from ui.simple.page import _Handlers
from ui.simple.pictures import captions


class Tab:
    """One tab: what its table shows, and what it remembers of it."""

    def __init__(self, handlers: Any, name: str = "set") -> None:
        self.handlers, self.name = handlers, name
        self.table, self.read = handlers.captions(name)

    def type(self, picture: str, caption: str) -> str:
        rows = [[name, caption if name == picture else text] for name, text in self.table]
        said, table, read = self.handlers.write(self.name, rows, self.read)
        self.table = rows if table == gr.skip() else table
        self.read = self.read if read == gr.skip() else read
        return "" if said == gr.skip() else str(said)


def tabs(folder: Path) -> tuple[Tab, Tab, Path]:
    pictures = folder / "set"
    pictures.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(pictures / name)
    handlers = _Handlers(SimpleNamespace(datasets=folder))  # type: ignore[arg-type]
    return Tab(handlers), Tab(handlers), pictures


def test_each_tab_keeps_what_the_other_has_written(tmp_path: Path) -> None:
    first, second, pictures = tabs(tmp_path)
    assert first.type("a.png", "one") == ""
    assert second.type("b.png", "two") == ""
    assert first.type("a.png", "one and a half") == ""
    assert captions(pictures) == [("a.png", "one and a half"), ("b.png", "two")]


def test_the_second_tab_to_change_a_caption_is_warned_sees_the_first_and_can_still_decide(tmp_path: Path) -> None:
    first, second, pictures = tabs(tmp_path)
    first.type("a.png", "one")
    said = second.type("a.png", "other")
    assert "changed elsewhere" in said and '"one"' in said and '"other"' in said
    assert captions(pictures)[0] == ("a.png", "one")
    assert second.table[0] == ["a.png", "one"]
    assert second.type("a.png", "other") == ""
    assert captions(pictures)[0] == ("a.png", "other")
    assert "changed elsewhere" in first.type("a.png", "once more")


def test_a_table_of_one_name_is_not_written_into_the_folder_of_another(tmp_path: Path) -> None:
    first, _, pictures = tabs(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (8, 8)).save(other / "a.png")
    first.name = "other"
    assert "Press Enter" in first.type("a.png", "meant for the set")
    assert captions(other) == [("a.png", "")]
    assert captions(pictures)[0] == ("a.png", "")
