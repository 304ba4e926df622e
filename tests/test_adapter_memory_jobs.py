"""Settings that save memory, in whole runs of adapters: each of them with each adapter.

Four seconds of processor time for each adapter: two runs of two steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from scripts.flux2_tiny.vision import write_vision_encoder
from tests.tiny import losses, run_job, write_job
from toolkit.adapters.choices import ADAPTERS
from toolkit.memory.activation_offload import ActivationOffload
from toolkit.output.events import read_events
from toolkit.weights.tensor_files import read_tensors

# Adapter -> how the base is stored; between them they have every qtype that is of interest.
BASES = {
    "ip": "qfloat8",
    "ip+": "uint4",
    "vision_direct": "uint4",
    "redux": "qfloat8",
    "control_lora": "uint4",
}
SIZES = ((32, 32), (48, 32), (32, 32), (48, 32))
# What must not change a loss; the rest of a job is the same in both runs.
PLAIN: dict[str, dict[str, Any]] = {"model": {}, "train": {"gradient_checkpointing": False}}
SAVING: dict[str, dict[str, Any]] = {
    "model": {
        "layer_offloading": True,
        "layer_offloading_transformer_percent": 0.5,
        "activation_offloading": True,
    },
    "train": {"gradient_checkpointing": True},
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vision_encoder(tmp_path_factory.mktemp("encoder") / "siglip")


def _write_pictures(folder: Path) -> Path:
    """Pictures of two sizes, which become two buckets, with captions."""
    folder.mkdir(parents=True)
    for index, size in enumerate(SIZES):
        picture = Image.new("RGB", size, (60 * index, 255 - 40 * index, 128))
        ImageDraw.Draw(picture).rectangle((4 * index, 8, 4 * index + 9, 25), fill="white")
        picture.save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"picture {index}", encoding="utf-8")
    return folder


def _run(folder: Path, kind: str, encoder: Path, sections: dict[str, dict[str, Any]]) -> Path:
    """Run a job with all settings that may change a loss, and these. Returns its output folder."""
    dataset = {"folder_path": str(_write_pictures(folder / "data")), "resolution": 40, "caption_dropout_rate": 0.4}
    adapter: dict[str, Any] = {"type": kind}
    if ADAPTERS[kind].reads == "view":
        adapter |= {"image_encoder_path": str(encoder), "image_dropout_rate": 0.3}
        dataset["clip_image_from_same_folder"] = True
    else:
        adapter |= {"control_image_dropout": 0.3}
        dataset["control_path"] = str(_write_pictures(folder / "control"))
    train = {
        "steps": 2,
        "batch_size": 2,
        "gradient_accumulation": 2,
        "ema_config": {"use_ema": True, "ema_decay": 0.9},
    }
    model = {"quantize": True, "qtype": BASES[kind], "quantize_cache": False}
    job = write_job(
        folder,
        adapter=adapter,
        network={"type": "lora", "linear": 2},
        datasets=[dataset],
        train={**train, **sections["train"]},
        model={**model, **sections["model"]},
    )
    assert run_job(job).status == "done"
    return folder / "output" / "job"


def test_every_adapter_that_sees_something_is_tried() -> None:
    assert BASES.keys() == {kind for kind, choice in ADAPTERS.items() if choice.reads != "none"}


# ip sees what ip+ sees, through the same layers of each block.
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.torture if kind == "ip" else ()) for kind in BASES]
)
def test_what_saves_memory_changes_no_loss_of_an_adapter_on_a_quantized_base(
    kind: str, tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = ActivationOffload.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "smallest_bytes", 0)
    plain, saving = (
        _run(tmp_path / name, kind, encoder, sections) for name, sections in (("plain", PLAIN), ("saving", SAVING))
    )
    assert len(losses(plain)) == 2
    assert losses(plain) == losses(saving)
    told = [event.get("text", "") for event in read_events(saving / "events.jsonl")]
    assert any("are kept in RAM" in text for text in told)
    name = f"job{ADAPTERS[kind].suffix}.safetensors"
    for file in (name, "job_LoRA.safetensors", "state/000000002/ema.safetensors"):
        one, other = read_tensors(plain / file), read_tensors(saving / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), file
    averages, raw = (read_tensors(plain / "state" / "000000002" / f"{part}.safetensors") for part in ("ema", "weights"))
    users = read_tensors(plain / name)
    own = [key for key in averages if key.startswith(f"{kind}.0.")]
    assert any(not torch.equal(averages[key], raw[key]) for key in own)
    for key in own:  # users get the average
        held = users.get(key.removeprefix(f"{kind}.0."), users.get("diffusion_model.img_in.lora_B.weight"))
        assert held is not None and torch.equal(held, averages[key]), key
