"""n ranks with accumulation k make the run of one rank with accumulation n times k: losses, LoRA and bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.parallel_jobs import PARALLEL_JOBS, TWO_PASSES
from tests.ranks.launcher import Launcher
from tests.ranks.trouble import Trouble, told
from tests.tiers import IS_TORTURE
from tests.tiny import losses, write_dataset, write_job
from tests.vision import write_encoder
from toolkit.output.bundles import find_bundles
from toolkit.output.events import read_events
from toolkit.weights.tensor_files import read_tensors

STEPS = 6
FEW_STEPS = 3  # six batches: each picture twice
SAMPLES = {"samples": [{"prompt": f"a {color} circle"} for color in ("red", "green", "blue")], "format": "png"}
VALIDATION = {"validation_config": {"validate_every_n_steps": 2, "max_images": 1}}
# What each draws is drawn anew in each batch; five pictures and batches of two: every third batch is short.
CASES: dict[str, dict[str, Any]] = {
    "everything": {
        "model": {"quantize": True, "qtype": "qfloat8", "layer_offloading": True, "activation_offloading": True},
        "network": {"type": "lora", "linear": 2, "dropout": 0.3},
        "train": {
            "optimizer": "adamw8bit",
            "gradient_checkpointing": True,
            "ema_config": {"use_ema": True, "ema_decay": 0.9, "ema_warmup": True, "power_ema": True},
            "disable_sampling": False,
            **VALIDATION,
        },
    },
    "full fine-tune": {"network": None, "train": {"full_finetune": True, "lr_scheduler": "cosine", **VALIDATION}},
}


def write(folder: Path, base: Path, *, accumulation: int = 1, **sections: Any) -> Path:
    """A job of six steps."""
    folder.mkdir(parents=True, exist_ok=True)
    train = {"steps": STEPS, "gradient_accumulation": accumulation, "gradient_checkpointing": False}
    images = write_dataset(folder / "images", count=5)
    dataset = {"folder_path": str(images), "resolution": 32, "caption_dropout_rate": 0.3}
    merged = {
        "datasets": [dataset],
        **sections,
        "train": train | sections.get("train", {}),
        "model": {"name_or_path": str(base)} | sections.get("model", {}),
    }
    return write_job(folder, **merged)


def state(folder: Path) -> dict[str, Tensor]:
    """All tensors that a run has written."""
    files = sorted((folder / "output" / "job").rglob("*.safetensors"))
    return {f"{path.name} {name}": tensor for path in files for name, tensor in read_tensors(path).items()}


def _references_and_regularisation(folder: Path) -> dict[str, Any]:
    """Pictures with a reference each, others that a model is to keep, and one more sample, which has a reference."""
    own, kept = (str(write_dataset(folder / name, count=3)) for name in ("own", "kept"))
    references = str(write_dataset(folder / "before", count=3, size_px=64))
    both = {"resolution": 32, "caption_dropout_rate": 0.3}
    edit = {"prompt": "an edit", "ctrl_img": f"{references}/0.png"}
    return {
        "datasets": [
            {"folder_path": own, "control_path": references, **both},
            {"folder_path": kept, "is_reg": True, **both},
        ],
        "sample": SAMPLES | {"samples": [*SAMPLES["samples"], edit]},
    }


def is_same(folder: Path, other: Path) -> bool:
    """Whether a run has logged the same losses as another, and whether all its tensors are that one's, bit for bit."""
    mine, theirs = state(folder), state(other)
    assert mine and mine.keys() <= theirs.keys()
    output = Path("output", "job")
    return losses(folder / output) == losses(other / output) and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


def _is_close(folder: Path, other: Path) -> bool:
    """Whether two runs differ by the order of sums only: of a batch, several gradients enter the sum one by one."""
    mine, theirs = state(folder), state(other)
    output = Path("output", "job")
    return losses(folder / output) == pytest.approx(losses(other / output), rel=1e-6, abs=1e-8) and all(
        torch.allclose(mine[name], theirs[name], rtol=0, atol=1e-5) for name in mine
    )


def _scores(folder: Path) -> dict[int, Any]:
    """How like the training images each round of samples is."""
    events = read_events(folder / "output" / "job" / "events.jsonl")
    return {event["step"]: event["similarity"] for event in events if event["kind"] == "scores"}


def _rounds(folder: Path) -> dict[int, Any]:
    """The figures of each validation round."""
    events = read_events(folder / "output" / "job" / "events.jsonl")
    return {event["step"]: event["figures"] for event in events if event["kind"] == "validation"}


@pytest.mark.parametrize("name", [*CASES, *(name for name in PARALLEL_JOBS if IS_TORTURE or name != "slider")])
def test_two_ranks_are_one_with_twice_the_accumulation_bit_for_bit(
    name: str, launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    encoder = write_encoder(tmp_path / "encoder", "dinov2")
    for folder, world in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        sections = CASES[name] if name in CASES else PARALLEL_JOBS[name](tmp_path / folder)
        if name == "everything":
            sections = sections | _references_and_regularisation(tmp_path / folder)
            sections["sample"]["score_with"] = str(encoder)  # the first rank scores the pictures of all
        job = write(tmp_path / folder, smallest_model, accumulation=2 // world, **sections)
        tells = [Trouble(-1, "step", "tell")] if name == "everything" else []
        end = launcher.run(tmp_path / folder, world, str(job), "--set", f"train.steps={FEW_STEPS}", troubles=tells)
        assert set(end.codes) == {0}, end.text
        held = [told(printed) for printed in end.printed]
        assert held[0] == held[-1]
        assert len(held[0]) == (FEW_STEPS if tells else 0)
    is_exact = name not in TWO_PASSES
    assert is_same(tmp_path / "one", tmp_path / "two") if is_exact else _is_close(tmp_path / "one", tmp_path / "two")
    ones, twos = (sorted((tmp_path / folder / "output" / "job" / "samples").glob("*.png")) for folder in ("one", "two"))
    assert [path.name.partition("__")[2] for path in ones] == [path.name.partition("__")[2] for path in twos]
    assert [Image.open(path).tobytes() for path in ones] == [Image.open(path).tobytes() for path in twos]
    assert len(ones) == (8 if name == "everything" else 0)
    one, two = (_rounds(tmp_path / folder) for folder in ("one", "two"))
    assert one == two
    assert list(one) == ([0, 2, FEW_STEPS] if name in CASES else [])
    one, two = (_scores(tmp_path / folder) for folder in ("one", "two"))
    assert one == two
    assert list(one) == ([0, FEW_STEPS] if name == "everything" else [])


def test_a_run_goes_on_with_other_numbers_of_ranks_as_if_there_had_been_one(
    launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "parts"
    job = write(whole, smallest_model, accumulation=2)
    assert launcher.run(whole, 1, str(job), "--set", "save.save_every=2").codes == [0]
    job = write(folder, smallest_model)
    for world, steps in ((2, 2), (1, 4), (2, STEPS)):
        more = ("--set", "save.save_every=2", "--set", f"train.steps={steps}")
        end = launcher.run(folder, world, str(job), *more)
        assert set(end.codes) == {0}, end.text
        if world == 1:
            assert "2 ranks reached step 2; with 1 rank, each accumulates over 2 batches" in end.text
    assert is_same(folder, whole)
    (_, *bundles), _ = find_bundles(folder / "output" / "job")
    assert {bundle.manifest["batches_per_step"] for bundle in bundles} == {2}

    end = launcher.run(folder, 3, str(job), "--set", "train.steps=9")
    assert end.codes == [2, 2, 2]
    assert "2 batches a step, which 3 ranks cannot share equally. Resume it with 1 or 2 ranks" in end.text
    assert end.text.count("cannot share") == 1
    end = launcher.run(folder, 3, str(job), "--set", "train.steps=9", "--accept-config-change")
    assert end.codes == [0, 0, 0], end.text


def test_four_ranks_draw_what_one_draws_and_differ_by_the_order_of_sums(
    launcher: Launcher, smallest_model: Path, tmp_path: Path
) -> None:
    for folder, world in (("one", 1), ("four", 4)):
        job = write(tmp_path / folder, smallest_model, accumulation=4 // world)
        end = launcher.run(tmp_path / folder, world, str(job), "--set", f"train.steps={FEW_STEPS}")
        assert set(end.codes) == {0}, end.text
    one, four = (losses(tmp_path / folder / "output" / "job") for folder in ("one", "four"))
    assert four == pytest.approx(one, rel=1e-5)
    one_state, four_state = (state(tmp_path / folder) for folder in ("one", "four"))
    for name, tensor in one_state.items():
        assert torch.allclose(tensor.float(), four_state[name].float(), rtol=1e-3, atol=1e-5), name
