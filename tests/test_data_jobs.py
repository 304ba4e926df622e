"""Whole runs on datasets of every kind."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

from tests.tiny import losses, run_job, write_dataset, write_job


def test_a_run_on_drawn_captions_cuts_colours_shares_and_strengths_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Takes 6 s: two runs of the tiny model, of which one starts twice."""
    images = write_dataset(tmp_path / "images")
    for path in images.glob("*.png"):
        Image.new("RGB", (96, 48), (40 * int(path.stem), 9, 90)).save(path)
        path.with_suffix(".txt").write_text("one, two, three, four\na thing, here\n")
    for index in range(3):
        (images / f"{index}.json").write_text(json.dumps({"caption": ["a", "b"], "caption_short": "s"}))
    with tarfile.open(tmp_path / "reg.tar", "w") as shard:
        for path in sorted(write_dataset(tmp_path / "reg", count=3).iterdir()):
            shard.add(path, path.name)
    datasets = [
        {
            "folder_path": str(images),
            "resolution": 32,
            "caption_per_line": True,
            "shuffle_tokens": True,
            "token_dropout_rate": 0.2,
            "random_triggers": ["x", "y"],
            "caption_dropout_rate": 0.2,
            "random_crop": True,
            "random_scale": True,
            "color_jitter": {"brightness": 0.2, "hue": 0.1},
            "batch_size": 2,
        },
        {
            "folder_path": str(images),
            "caption_ext": "json",
            "default_caption": "",
            "resolution": 32,
            "square_crop": True,
        }
        | {"default_caption": "", "network_weight": 0.5, "share_of_steps": 0.25},
        {"folder_path": str(tmp_path / "reg.tar"), "resolution": 32, "is_reg": True},
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        write_job(folder, datasets=datasets, train={"steps": 8, "short_and_long_captions": True})
    assert run_job(whole / "job.yaml").status == "done"
    assert run_job(parts / "job.yaml", None, "train.steps=3").status == "done"
    assert run_job(parts / "job.yaml").status == "done"
    assert losses(parts / "output" / "job") == losses(whole / "output" / "job")
    first, second = (load_file(folder / "output" / "job" / "job.safetensors") for folder in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
