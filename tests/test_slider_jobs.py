"""Jobs that train sliders: the section of ai-toolkit, what is refused, and whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.tiny import checked_of, problems_of, run_job, write_dataset, write_job
from toolkit.output.events import read_events
from toolkit.weights.tensor_files import read_tensors

SLIDER = {"positive_prompt": "a large shape", "negative_prompt": "a small shape", "target_class": "a shape"}
PROMPTS = {"type": "concept_slider", "slider": SLIDER}


def pairs(folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """Four images, each with a counterpart of another colour."""
    (folder / "others").mkdir(exist_ok=True)
    for index in range(4):
        Image.new("RGB", (32, 32), (255, 10 * index, 0)).save(folder / "others" / f"{index}.png")
    data = {"folder_path": str(write_dataset(folder / "images")), "resolution": 32}
    return [{**data, "unconditional_path": str(folder / "others"), **settings}]


def test_the_section_of_ai_toolkit_is_read(tmp_path: Path) -> None:
    checked = checked_of(tmp_path, **PROMPTS)
    assert checked.problems == ()
    train = checked.config.train
    assert train.objective == "concept_slider"
    assert train.objective_params.words() == {
        "positive": "a large shape",
        "negative": "a small shape",
        "target": "a shape",
    }
    assert {*SLIDER.values()} <= checked.needs.captions
    assert not any(caption.startswith("a picture") for caption in checked.needs.texts), "captions are not read"
    assert (checked.needs.passes.with_gradient, checked.needs.passes.without_gradient) == (2, 3)
    anchored = checked_of(tmp_path, type="concept_slider", slider={**SLIDER, "anchor_class": "a dog"})
    assert (anchored.needs.passes.with_gradient, anchored.needs.passes.without_gradient) == (4, 4)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two equal ends": (
        {"type": "concept_slider", "slider": {**SLIDER, "negative_prompt": "a large shape"}},
        "the slider would have no direction",
    ),
    "a slider without its section": ({"type": "concept_slider"}, "the slider would have no direction"),
    "another objective": ({**PROMPTS, "train": {"objective": "velocity"}}, "slider: means `objective: concept_slider`"),
    "settings twice": ({**PROMPTS, "train": {"objective_params": SLIDER}}, "there is also `train.objective_params`"),
    "a misspelt key": ({"type": "concept_slider", "slider": {**SLIDER, "anchor": "x"}}, "anchor: unknown key"),
    "a full fine-tune": ({**PROMPTS, "network": None, "train": {"full_finetune": True}}, "has none. Train a network"),
    "no network": ({**PROMPTS, "network": None, "adapter": {"type": "subpixel"}}, "add `network: {type: lora}`"),
    "preservation": ({**PROMPTS, "train": {"blank_prompt_preservation": True}}, "is part of `objective: velocity`"),
    "the model's own steps": (
        {**PROMPTS, "train": {"timestep_type": "next_sample"}},
        "train.timestep_type: is part of",
    ),
    "images without counterparts": (
        {"train": {"objective": "image_slider"}},
        "datasets[0].unconditional_path: missing",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_slider_is_refused(case: str, tmp_path: Path) -> None:
    sections, what = REFUSED[case]
    assert any(what in problem for problem in problems_of(tmp_path, **sections)), problems_of(tmp_path, **sections)


def test_counterparts_that_cannot_be_meant_are_named(tmp_path: Path) -> None:
    sets, train = pairs(tmp_path), {"objective": "image_slider"}
    assert problems_of(tmp_path, datasets=sets, train=train) == []
    (tmp_path / "others" / "0.png").unlink()
    Image.new("RGB", (32, 16)).save(tmp_path / "others" / "1.png")
    (tmp_path / "others" / "2.png").write_bytes(b"no picture")
    found = "\n".join(problems_of(tmp_path, datasets=sets, train=train))
    assert "0.png: has no counterpart in" in found
    assert "32 x 16 has another aspect ratio than its image, 32 x 32" in found
    assert "2.png: cannot be read" in found
    sets = pairs(tmp_path, random_crop=True)
    assert "a pair is encoded once" in problems_of(tmp_path, datasets=sets, train=train)[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prompts", "images"])
def test_a_run_trains_a_network_for_both_strengths(kind: str, tmp_path: Path) -> None:
    """Two runs of four steps; blocks are computed again in backward, at the strength of their pass."""
    sections: dict[str, Any] = {**PROMPTS, "slider": {**SLIDER, "anchor_class": "a dog"}}
    if kind == "images":
        sections = {"datasets": pairs(tmp_path)}
    objective = {} if kind == "prompts" else {"objective": "image_slider"}
    weights = []
    for is_checkpointed in (True, False):
        folder = tmp_path / str(is_checkpointed)
        folder.mkdir()
        train = {"steps": 4, "gradient_checkpointing": is_checkpointed, **objective}
        assert run_job(write_job(folder, **{**sections, "train": train})).status == "done"
        weights.append(read_tensors(folder / "output" / "job" / "job.safetensors"))
        events = read_events(folder / "output" / "job" / "events.jsonl")
        terms = {name for event in events if event["kind"] == "step" for name in event["terms"]}
        assert terms == {"raised", "lowered", *(["anchor"] if kind == "prompts" else [])}
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-6), name
