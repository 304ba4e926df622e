"""toolkit.draw.sheet and toolkit.draw.columns"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tiny import TINY
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.columns import columns_of
from toolkit.draw.sheet import CELL_PX, draw_sheet


def test_a_sheet_has_its_pictures_under_their_names(tmp_path: Path) -> None:
    Image.new("RGB", (64, 32), "red").save(tmp_path / "a.png")
    plain = draw_sheet(["one", "two"], [""], {(1, 0): tmp_path / "a.png"})
    assert plain.width == 2 * CELL_PX
    assert plain.getpixel((CELL_PX // 2, 80)) == (255, 255, 255)
    assert plain.getpixel((CELL_PX + CELL_PX // 2, 80)) == (255, 0, 0)
    named = draw_sheet(["one", "two"], ["a prompt " * 40], {(1, 0): tmp_path / "a.png"})
    left_px = named.width - plain.width
    assert named.height == plain.height and left_px > 0
    margin = named.crop((0, 0, left_px, named.height))
    assert min(margin.convert("L").tobytes()) < 128, "the prompt is written beside its row"
    assert named.crop((left_px, 0, *named.size)).tobytes() == plain.tobytes()


def drawing(**process: Any) -> GenerateProcessConfig:
    model = {"name_or_path": str(TINY), "arch": "flux2_tiny"}
    return GenerateProcessConfig.model_validate(
        {"type": "to_folder", "model": model, "generate": {"prompts": ["a"], "network_multiplier": 0.5}, **process}
    )


def test_each_column_changes_one_thing() -> None:
    loras = {"loras": [{"path": "a.safetensors", "weight": 0.3}]}
    (only,) = columns_of(drawing(**loras))
    (item,) = drawing().generate.items()
    assert only.of(item) == item and only.loras == ((Path("a.safetensors"), 0.3),)
    strengths = columns_of(drawing(**loras, sheet="strengths", strengths=[0, 2]))
    assert [(column.name, column.of(item).network_multiplier) for column in strengths] == [
        ("strength 0", 0.0),
        ("strength 2", 2.0),
    ]
    steps = columns_of(drawing(sheet="steps", steps=[4, 8]))
    assert [column.of(item).sample_steps for column in steps] == [4, 8]
    checkpoints = columns_of(drawing(**loras, sheet="checkpoints", checkpoints=["b.safetensors"]))
    assert checkpoints[0].loras == ((Path("a.safetensors"), 0.3), (Path("b.safetensors"), 1.0))


def test_a_grid_has_a_column_for_each_file_at_each_strength_and_one_without() -> None:
    files = ["b.safetensors", "c.safetensors", "b.safetensors"]
    loras = [{"path": "a.safetensors", "weight": 0.3}]
    columns = columns_of(drawing(loras=loras, sheet="grid", checkpoints=files, strengths=[0, 1, 0.5, 1]))
    always = (Path("a.safetensors"), 0.3)
    assert [(column.name, column.loras) for column in columns] == [
        ("without LoRA", (always,)),
        ("b x 1", (always, (Path("b.safetensors"), 1.0))),
        ("b x 0.5", (always, (Path("b.safetensors"), 0.5))),
        ("c x 1", (always, (Path("c.safetensors"), 1.0))),
        ("c x 0.5", (always, (Path("c.safetensors"), 0.5))),
    ]
    assert len(columns_of(drawing(sheet="grid", strengths=[0]))) == 1


def test_each_prompt_is_drawn_with_each_seed() -> None:
    items = drawing(generate={"prompts": ["a", "b --seed 9"], "seeds": [3, 4, 3]}).generate.items()
    assert [(item.prompt, item.seed) for item in items] == [("a", 3), ("a", 4), ("b", 3), ("b", 4)]


@pytest.mark.parametrize(
    ("process", "message"),
    [
        ({"sheet": "grid", "strengths": [1]}, "or the strength 0"),
        ({"sheet": "checkpoints"}, "needs `checkpoints`"),
        ({"sheet": "strengths"}, "needs `loras`"),
        ({"sheet": "steps", "generate": {"prompts": ["a --seed -1"]}}, "the seed -1"),
    ],
)
def test_a_sheet_that_compares_nothing_is_refused(process: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawing(**process)
