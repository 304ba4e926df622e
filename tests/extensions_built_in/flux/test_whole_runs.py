"""Runs of the trainer with FLUX.1: from every layout, stopped and resumed, with references, as a full fine-tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import run
from jobs.job import Job
from tests.tiny import StopAfter, losses, run_job, write_dataset, write_job
from tests.tiny_flux import KINDS, LAYOUTS, make_tiny_flux, tiny_flux
from toolkit.config import load_job
from toolkit.errors import UserError
from toolkit.output.events import read_events
from toolkit.train.trainable import TransformerWeights
from toolkit.weights.tensor_files import read_metadata, read_tensors

# `make test` runs each layout with one kind, and each kind from several layouts.
CELLS = [
    pytest.param(kind, layout, marks=() if (row - column) % 3 == 0 else pytest.mark.torture)
    for column, kind in enumerate(KINDS)
    for row, layout in enumerate(LAYOUTS)
]
Sections = dict[str, dict[str, Any]]


def _controlled(folder: Path) -> dict[str, Any]:
    """A dataset of pictures with a reference of another size each."""
    images = write_dataset(folder / "images")
    control = write_dataset(folder / "control", size_px=80)
    return {"folder_path": str(images), "control_path": str(control), "resolution": 32}


@pytest.mark.parametrize(("kind", "layout"), CELLS)
def test_a_layout_can_be_trained_sampled_saved_and_read_back(kind: str, layout: str, tmp_path: Path) -> None:
    section = make_tiny_flux(tmp_path / "model", kind, layout)
    sample: dict[str, Any] = {"prompt": "a red circle"}
    options: dict[str, Any] = {}
    if kind == "kontext":
        options["datasets"] = [_controlled(tmp_path)]
        sample["ctrl_img"] = str(tmp_path / "control" / "0.png")
    job = write_job(
        tmp_path,
        model=section,
        train={"steps": 2, "batch_size": 2, "disable_sampling": False, "skip_first_sample": True},
        save={"save_every": 2},
        sample={"sample_every": 2, "samples": [sample]},
        **options,
    )
    assert run_job(job).status == "done"
    output = tmp_path / "output" / "job"
    (drawn,) = (output / "samples").glob("*__*.jpg")
    with Image.open(drawn) as image:
        assert image.size == (32, 32)
    path = output / "job.safetensors"
    saved = read_tensors(path)
    assert "transformer.transformer_blocks.0.attn.to_q.lora_A.weight" in saved
    assert read_metadata(path)["ss_base_model_version"] == ("flux.1_kontext" if kind == "kontext" else "flux.1")
    assert len(tiny_flux(section, "transformer").convert_lora_weights_before_load(saved)) == len(saved)
    assert any(tensor.abs().max() > 0 for name, tensor in saved.items() if "lora_B" in name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_and_resumed_run_repeats_every_loss_bit_for_bit(
    kind: str, sections: Sections, tmp_path: Path
) -> None:
    dataset = _controlled(tmp_path) if kind == "kontext" else {"folder_path": str(write_dataset(tmp_path / "images"))}
    dataset |= {
        "resolution": 32,
        "caption_dropout_rate": 0.5,
        "cache_latents_to_disk": True,
        "cache_text_embeddings": True,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        write_job(folder, model=sections[kind], train={"steps": 4}, datasets=[dataset], save={"save_every": 2})
    assert run_job(whole / "job.yaml").status == "done"
    num_images = 8 if kind == "kontext" else 4  # with the references
    # it looks before each of 5 texts and every image, and up to twice after each step
    assert run_job(parts / "job.yaml", StopAfter(5 + num_images + 2)).status == "interrupted"
    outputs = parts / "output" / "job", whole / "output" / "job"
    assert 0 < len(losses(outputs[0])) < 4
    assert run_job(parts / "job.yaml").status == "done"
    assert losses(outputs[0]) == losses(outputs[1])
    one, other = (read_tensors(output / "job.safetensors") for output in outputs)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    texts = [event.get("text", "") for event in read_events(outputs[0] / "events.jsonl")]
    assert any("all texts were cached" in text for text in texts)
    assert any("all images were cached" in text for text in texts)


@pytest.mark.parametrize("save_format", ["diffusers", "safetensors"])
def test_a_full_fine_tune_can_be_loaded_again(save_format: str, sections: Sections, tmp_path: Path) -> None:
    model = tiny_flux(sections["dev"], "transformer")
    trained = TransformerWeights(model, save_format=save_format)
    for _, parameter in trained.named_parameters():
        parameter.data += 1
    trained.save(tmp_path / "tuned", dtype=torch.float32, metadata={})
    place = tmp_path / ("tuned" if save_format == "diffusers" else "tuned.safetensors")
    again = tiny_flux({"name_or_path": str(place), "arch": "flux"}, "transformer")
    ours, theirs = again.transformer.state_dict(), model.transformer.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_lora_of_ai_toolkit_is_where_training_starts(sections: Sections, tmp_path: Path) -> None:
    first = write_job(tmp_path, model=sections["dev"], train={"steps": 1, "batch_size": 1}, save={"save_every": 0})
    assert run_job(first).status == "done"
    lora = tmp_path / "output" / "job" / "job.safetensors"
    second = write_job(
        tmp_path,
        name="second",
        model=sections["dev"],
        network={"pretrained_lora_path": str(lora)},
        train={"steps": 1, "batch_size": 1, "lr": 1e-30},
        save={"save_every": 0},
    )
    assert run_job(second).status == "done"
    before, after = read_tensors(lora), read_tensors(tmp_path / "output" / "second" / "second.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_check_names_the_model_and_needs_no_weights(
    sections: Sections, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(tmp_path, model=sections["kontext"], datasets=[_controlled(tmp_path)])
    assert run.main([str(job), "--check"]) == 0
    assert "LoRA of rank 4 of FLUX.1 Kontext [dev]" in capsys.readouterr().out
    assert not (tmp_path / "output").exists()


def test_kontext_takes_one_reference_and_dev_none(sections: Sections, tmp_path: Path) -> None:
    dataset = _controlled(tmp_path)
    with pytest.raises(UserError, match=r"control_path: FLUX\.1 \[dev\] takes no reference images"):
        Job(load_job(write_job(tmp_path, model=sections["dev"], datasets=[dataset]))).check()
    dataset["control_path"] = [dataset["control_path"]] * 2
    with pytest.raises(
        UserError, match=r"control_path: FLUX\.1 Kontext \[dev\] takes at most 1 reference image per image"
    ):
        Job(load_job(write_job(tmp_path, model=sections["kontext"], datasets=[dataset]))).check()
