"""benchmarks.quality_real in its short form: real classes, the tiny model and a DINOv2 of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from benchmarks import quality_real
from benchmarks.quality_real import divide, main, summary
from tests.tiny import TINY
from toolkit.errors import UserError


def _encoder(folder: Path) -> Path:
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


def _images(folder: Path, count: int = 20) -> Path:
    folder.mkdir()
    for index in range(count):
        Image.new("RGB", (32, 32), (12 * index, 90, 200)).save(folder / f"{index:02}.png")
        (folder / f"{index:02}.txt").write_text(f"sks cat {index}", encoding="utf-8")
    return folder


def test_the_protocol_runs_from_pictures_to_scores_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_real, "DRIFT_PROMPTS", quality_real.DRIFT_PROMPTS[:2])  # each drawn twice
    out = tmp_path / "real.json"
    folders = ["--model", TINY, "--encoder", _encoder(tmp_path / "dino"), "--images", _images(tmp_path / "images")]
    short = ["--steps", 2, "--side", 32, "--draw-steps", 1, "--repeats", 1, "--arch", "flux2_tiny", "--device", "cpu"]
    command = [*folders, "--out", out, "--work", tmp_path / "work", *short, "--seeds", 0, "--networks", "oft"]
    main([str(one) for one in command])
    found = json.loads(out.read_text())
    scores = found["rows"]["oft"]["0"]
    assert -1 <= scores["similarity"] <= 1
    assert 0 <= scores["drift"] < 0.5
    assert scores["file_bytes"] > 0
    assert len(list((tmp_path / "work" / "oft_0" / "images").glob("*.png"))) == 14
    assert "goal: similarity at least 0.743 at a drift of at most 0.262" in capsys.readouterr().out
    main([str(one) for one in command])
    assert json.loads(out.read_text()) == found


def test_the_data_are_divided_as_in_the_published_protocol(tmp_path: Path) -> None:
    train, test = divide([Path(f"{index}.png") for index in range(20)])
    assert [int(path.stem) for path in train] == [18, 1, 19, 8, 10, 17, 6, 13, 4, 2, 5, 14, 9, 7]
    assert [int(path.stem) for path in test] == [3, 0, 15, 12]
    with pytest.raises(UserError, match="3 pictures, but the protocol divides 20"):
        divide([tmp_path] * 3)


def test_the_goal_is_reached_only_by_three_seeds_on_both_scores() -> None:
    good = {"similarity": 0.75, "drift": 0.26}
    rows = {
        "a": {str(i): good for i in range(3)},
        "b": {"0": good},
        "c": {str(i): good | {"drift": 0.3} for i in range(3)},
    }
    lines = summary(rows)
    assert [line.endswith("reached") for line in lines[1:]] == [True, False, False]
