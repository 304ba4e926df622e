"""Whole runs of the trainer with the tiny model."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from PIL import Image
from safetensors import safe_open

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from jobs.job import Job
from tests.tiny import TINY, StopAfter, losses, run_job, write_dataset, write_job
from toolkit.config import load_job
from toolkit.objectives.choices import OBJECTIVES
from toolkit.output.alive import this_machine
from toolkit.output.events import read_events
from toolkit.output.run_record import read_runs
from toolkit.runtime.stop import StopRequest
from toolkit.train.resume import ResumeChoice
from toolkit.train.tasks.sample_info import read_info
from toolkit.weights.tensor_files import read_tensors


def _equal(one: Path, other: Path) -> bool:
    a, b = read_tensors(one), read_tensors(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_lora_run_leaves_what_ai_toolkits_users_expect(tmp_path: Path) -> None:
    sample = {"sample_every": 3, "prompts": ["a red circle", "a blue square"]}
    job = write_job(tmp_path, trigger_word="xyz", sample=sample, train={"disable_sampling": False})
    assert run_job(job).status == "done"
    output = tmp_path / "output" / "job"
    names = {path.name for path in output.iterdir()}
    assert {"config.yaml", "events.jsonl", "job.safetensors", "job_000000003.safetensors", "samples", "state"} <= names
    samples = sorted(path.name.partition("__")[2] for path in (output / "samples").glob("*__*.jpg"))
    assert samples == [f"{step:09d}_{index}.jpg" for step in (0, 3, 6) for index in (0, 1)]
    with Image.open(next((output / "samples").glob("*__000000003_1.jpg"))) as picture:
        info = read_info(picture)
    assert (info["prompt"], info["step"], info["ss_base_model_version"]) == ("a blue square", 3, "flux2_tiny")
    with Image.open(output / "samples" / "grid.jpg") as grid:
        assert grid.width == 160 + 3 * 256, "prompts, then a column for each step"
        assert grid.height > 2 * 256
    with safe_open(output / "job.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["training_info"]) == {"step": 6, "epoch": 3}
    assert metadata["ss_output_name"] == "job"
    assert metadata["ss_base_model_version"] == "flux2_tiny"
    assert json.loads(metadata["ss_tag_frequency"]) == {"1": {"xyz": 1}}
    assert (output / "job.safetensors").stat().st_mode & 0o044, "others may read it"
    kinds = {event["kind"] for event in read_events(output / "events.jsonl")}
    assert {"job", "stage", "step", "sample", "checkpoint", "done"} <= kinds


# Each has as many of the things that a resume can lose as go together: all must be right for the end to be equal.
VARIANTS: dict[str, dict[str, Any]] = {
    "lora 8 bit with schedule, accumulation, ema and dropout": {
        "network": {"dropout": 0.3},
        "datasets_extra": {"caption_dropout_rate": 0.5},
        "train": {
            "optimizer": "adamw8bit",
            "lr_scheduler": "cosine",
            "lr_scheduler_params": {"warmup_steps": 2},
            "gradient_accumulation": 2,
            "ema_config": {"use_ema": True, "ema_decay": 0.9},
        },
    },
    "random crop in bf16": {
        "datasets_extra": {"random_crop": True, "resolution": 16},
        "train": {"dtype": "bf16", "gradient_checkpointing": False},
    },
    "full fine-tune in bf16, during backward": {
        "network": None,
        "train": {
            "full_finetune": True,
            "full_finetune_weights": "bf16_stochastic",
            "fused_backward_pass": True,
            "max_grad_norm": 0,
            "optimizer": "adamw8bit",
            "dtype": "bf16",
            "batch_size": 1,
        },
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stopped_and_resumed_run_repeats_every_loss_bit_for_bit(variant: str, tmp_path: Path) -> None:
    options = dict(VARIANTS[variant])
    extra: dict[str, Any] = options.pop("datasets_extra", {})
    options["datasets"] = [{"folder_path": str(write_dataset(tmp_path / "images")), "resolution": 32, **extra}]
    options["train"] = {**options["train"], "steps": 4}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        write_job(folder, save={"save_every": 2}, **options)
    assert run_job(whole / "job.yaml").status == "done"
    num_encoded = 0 if extra.get("random_crop") else 4  # a new cut of every picture is encoded with its batch
    # it looks before each of 5 texts and the images that are encoded before, and up to twice after each step
    assert run_job(parts / "job.yaml", StopAfter(5 + num_encoded + 2)).status == "interrupted"
    first = losses(parts / "output" / "job")
    assert 0 < len(first) < 4
    assert run_job(parts / "job.yaml").status == "done"
    assert losses(parts / "output" / "job") == losses(whole / "output" / "job")
    assert _equal(whole / "output" / "job" / "job.safetensors", parts / "output" / "job" / "job.safetensors")


def test_a_run_whose_newest_state_is_broken_resumes_from_the_one_before(tmp_path: Path) -> None:
    job = write_job(tmp_path, save={"save_every": 2})
    assert run_job(job).status == "done"
    output = tmp_path / "output" / "job"
    shutil.copy(output / "job.safetensors", tmp_path / "uninterrupted.safetensors")
    (output / "state" / "000000006" / "weights.safetensors").write_bytes(b"broken")
    assert run_job(job).status == "done"
    texts = [event.get("text", "") for event in read_events(output / "events.jsonl")]
    assert any("000000006: skipped" in text for text in texts)
    assert any("resuming from step 4" in text for text in texts)
    assert _equal(output / "job.safetensors", tmp_path / "uninterrupted.safetensors")


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    job = write_job(tmp_path, save={"save_every": 1, "max_step_saves_to_keep": 2})
    assert run_job(job).status == "done"
    output = tmp_path / "output" / "job"
    assert sorted(path.name for path in output.glob("job_*")) == [
        "job_000000004.safetensors",
        "job_000000005.safetensors",
    ]
    assert sorted(path.name for path in (output / "state").iterdir()) == ["000000004", "000000005", "000000006"]


def test_accumulating_over_two_halves_equals_one_batch_of_both() -> None:
    from tests.tiny import tiny_model
    from toolkit.models.condition import Condition
    from toolkit.objectives.batch import Batch
    from toolkit.objectives.noise.levels import NoiseLevels
    from toolkit.objectives.velocity import VelocityObjective
    from toolkit.optimizers.gradients import Gradients
    from toolkit.optimizers.weight_update import AllAtOnce
    from toolkit.parallel.ranks import OneProcess
    from toolkit.randomness import Draws
    from toolkit.train.learner import Learner
    from toolkit.train.step import Stepper
    from toolkit.train.trainable import TransformerWeights

    model = tiny_model("transformer")
    parameter = model.transformer.proj_out.weight.requires_grad_(True)
    draws, ranks = Draws(0), OneProcess()
    optimizer = torch.optim.SGD([parameter])
    update = AllAtOnce(optimizer, [parameter], max_norm=0, gradients=Gradients([parameter], ranks))
    weights = TransformerWeights(model, save_format="safetensors")
    learner = Learner(model, weights, optimizer, lambda step: 1e-30, update)

    class FixedNoise(VelocityObjective):
        """The same noise for a sample, whichever batch it is in."""

        def draw(self, batch: Batch, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
            noise = draws.normal((3, 64, 2, 2), "noise")[batch.index : batch.index + len(batch.latents)]
            return noise, torch.tensor([0.3, 0.5, 0.8])[batch.index : batch.index + len(batch.latents)]

    latents, embeds, weight = torch.randn(3, 64, 2, 2), torch.randn(3, 48, 192), torch.ones(3)

    def gradient(parts: list[slice]) -> tuple[torch.Tensor, torch.Tensor]:
        stepper = Stepper(learner, FixedNoise(NoiseLevels("sigmoid")), draws, ranks)
        batches = [Batch(p.start, latents[p], Condition(embeds[p]), weight[p], 4) for p in parts]
        gradients: list[torch.Tensor] = []
        handle = optimizer.register_step_pre_hook(lambda *_: gradients.append(parameter.grad.clone()))
        result = stepper.train_step(0, batches)
        handle.remove()
        return gradients[0], result.loss

    whole, whole_loss = gradient([slice(0, 3)])
    parts, parts_loss = gradient([slice(0, 2), slice(2, 3)])
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-7)
    assert whole_loss == pytest.approx(parts_loss.item(), rel=1e-5)


def test_diffusers_reproduces_our_sample_from_the_saved_lora(tmp_path: Path) -> None:
    sample = {"prompts": ["a picture of colour 1"], "format": "png", "seed": 5, "sample_steps": 6}
    job = write_job(tmp_path, sample=sample, train={"disable_sampling": False, "steps": 12, "lr": 5e-3})
    assert run_job(job).status == "done"
    output = tmp_path / "output" / "job"
    ours = Image.open(next((output / "samples").glob("*__000000012_0.png")))
    pipeline = Flux2KleinPipeline.from_pretrained(TINY, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> Image.Image:
        return pipeline(
            prompt="a picture of colour 1",
            width=32,
            height=32,
            num_inference_steps=6,
            guidance_scale=4.0,
            max_sequence_length=48,
            generator=torch.Generator().manual_seed(5),
        ).images[0]

    base = draw()
    pipeline.load_lora_weights(str(output), weight_name="job.safetensors")
    assert _psnr(draw(), ours) >= 40
    assert _psnr(base, ours) < 40, "the LoRA changed something"


def test_a_full_fine_tune_is_saved_as_the_released_single_file(tmp_path: Path) -> None:
    job = write_job(tmp_path, network=None, train={"full_finetune": True, "steps": 1})
    assert run_job(job).status == "done"
    path = tmp_path / "output" / "job" / "job.safetensors"
    transformer = Flux2Transformer2DModel.from_single_file(
        str(path), config=str(TINY), subfolder="transformer", local_files_only=True, dtype=torch.float32
    )
    base = Flux2Transformer2DModel.from_pretrained(TINY, subfolder="transformer", dtype=torch.float32)
    changed = [
        name for name, value in transformer.state_dict().items() if not torch.equal(value, base.state_dict()[name])
    ]
    assert "transformer_blocks.0.attn.to_q.weight" in changed


def test_a_full_fine_tune_is_saved_as_a_diffusers_folder_if_asked(tmp_path: Path) -> None:
    job = write_job(
        tmp_path,
        network=None,
        train={"full_finetune": True, "steps": 2},
        save={"save_format": "diffusers", "save_every": 1},
    )
    assert run_job(job).status == "done"
    output = tmp_path / "output" / "job"
    assert (output / "job_000000001" / "transformer").is_dir()
    Flux2Transformer2DModel.from_pretrained(output / "job", subfolder="transformer")


def test_caches_on_disk_spare_the_encoders_the_second_time(tmp_path: Path) -> None:
    images = write_dataset(tmp_path / "images")
    dataset = {
        "folder_path": str(images),
        "resolution": 32,
        "cache_latents_to_disk": True,
        "cache_text_embeddings": True,
    }
    train = {"steps": 2}
    run_job(write_job(tmp_path, datasets=[dataset], train=train, name="first"))
    run_job(write_job(tmp_path, datasets=[dataset], train=train, name="second"))
    texts = [event.get("text", "") for event in read_events(tmp_path / "output" / "second" / "events.jsonl")]
    assert {"all texts were cached", "all images were cached"} <= set(texts)
    first, second = (losses(tmp_path / "output" / name) for name in ("first", "second"))
    assert first == second
    cached = next((images / "_latent_cache").glob("*.safetensors"))
    cached.write_bytes(cached.read_bytes()[:100])
    run_job(write_job(tmp_path, datasets=[dataset], train=train, name="third"))
    events = list(read_events(tmp_path / "output" / "third" / "events.jsonl"))
    assert any(event["kind"] == "warning" and "the cache entry was damaged" in event["text"] for event in events)
    assert losses(tmp_path / "output" / "third") == first


def test_a_pretrained_lora_is_where_training_starts(tmp_path: Path) -> None:
    run_job(write_job(tmp_path, name="first", train={"steps": 2, "lr": 0.01}))
    path = tmp_path / "output" / "first" / "first.safetensors"
    job = write_job(
        tmp_path, name="second", network={"pretrained_lora_path": str(path)}, train={"steps": 1, "lr": 1e-9}
    )
    assert run_job(job).status == "done"
    before, after = read_tensors(path), read_tensors(tmp_path / "output" / "second" / "second.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_tensorboard_gets_the_losses_where_log_dir_is_set(tmp_path: Path) -> None:
    job = write_job(tmp_path, log_dir=str(tmp_path / "board"), logging={"log_every": 2}, train={"batch_size": 1})
    assert run_job(job).status == "done"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (tmp_path / "board").iterdir()
    board = EventAccumulator(str(folder))
    board.Reload()
    logged = losses(tmp_path / "output" / "job")
    for name in ("loss", "loss/velocity"):  # the sum, and the only term
        assert {entry.step: entry.value for entry in board.Scalars(name)} == {
            step: pytest.approx(logged[step]) for step in (2, 4, 6)
        }
    steps = [event for event in read_events(tmp_path / "output" / "job" / "events.jsonl") if event["kind"] == "step"]
    for group in ("loss_by_noise", "grad_by_noise"):
        for band in steps[0][group].keys() | steps[1][group].keys():  # of one sample each
            since = [step[group][band] for step in steps[:2] if band in step[group]]
            assert board.Scalars(f"{group}/{band}")[0].value == pytest.approx(sum(since) / len(since), rel=1e-4)


def test_a_state_of_another_network_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(write_job(tmp_path, train={"steps": 1})).status == "done"
    job = write_job(tmp_path, network={"linear": 8}, train={"steps": 2})
    assert run_job(job).status == "refused"
    assert "network.linear: 4 -> 8" in capsys.readouterr().err
    accepting = Job(load_job(job), resume=ResumeChoice(accept_config_change=True))
    assert accepting.run(StopRequest()).status == "failed"
    assert "trains other weights" in capsys.readouterr().err


def test_a_broken_down_training_stops_with_advice_and_writes_no_final_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(
        tmp_path, network=None, train={"full_finetune": True, "optimizer": "adagrad", "lr": 1e30, "max_grad_norm": 0}
    )
    assert run_job(job).status == "failed"
    assert "training has diverged" in capsys.readouterr().err
    assert not (tmp_path / "output" / "job" / "job.safetensors").exists()


def test_a_checkpoint_that_cannot_be_written_is_explained_and_the_one_before_is_intact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(tmp_path)
    blocked = tmp_path / "output" / "job" / "state" / "000000006"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder must be")
    assert run_job(job).status == "failed"
    assert "checkpoint of step 6 cannot be written" in capsys.readouterr().err
    blocked.unlink()
    assert run_job(job).status == "done"
    texts = [event.get("text", "") for event in read_events(tmp_path / "output" / "job" / "events.jsonl")]
    assert any("resuming from step 3" in text for text in texts)


def test_a_multiplier_makes_no_sense_for_a_full_fine_tune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = {"prompts": ["a red circle"], "network_multiplier": 0.5}
    train = {"full_finetune": True, "disable_sampling": False}
    assert run_job(write_job(tmp_path, network=None, sample=sample, train=train)).status == "refused"
    assert "sample.network_multiplier" in capsys.readouterr().err


def test_an_objective_that_switches_the_network_off_is_refused_in_a_full_fine_tune(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "velocity", replace(OBJECTIVES["velocity"], needs_network=True))
    assert run_job(write_job(tmp_path, network=None, train={"full_finetune": True})).status == "refused"
    assert "train.objective: velocity compares the model with itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("empty folder", "images"),
        ("unreadable image", "0.png"),
        ("caption encoding", "0.txt"),
    ],
)
def test_bad_data_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, message: str
) -> None:
    job = write_job(tmp_path)
    images = tmp_path / "images"
    if damage == "empty folder":
        shutil.rmtree(images)
        images.mkdir()
    elif damage == "unreadable image":
        (images / "0.png").write_bytes(b"no picture")
    else:
        (images / "0.txt").write_bytes(b"caf\xe9")
    assert run_job(job).status == "refused"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "output" / "job").exists()


def _psnr(one: Image.Image, other: Image.Image) -> float:
    a, b = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (one, other))
    return float(10 * np.log10(255**2 / max(float(np.mean((a - b) ** 2)), 1e-9)))


def test_a_signal_while_it_draws_saves_the_step_and_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = {"sample_every": 2, "sample_steps": 50, "prompts": ["a red circle"] * 50}
    job = write_job(tmp_path, sample=sample, train={"disable_sampling": False, "skip_first_sample": True})
    stop = StopRequest()
    drawn: list[None] = []

    def draw(*arguments: Any, **options: Any) -> Any:
        drawn.append(None)
        signal.raise_signal(signal.SIGINT)
        return original(*arguments, **options)

    original = Flux2TinyModel.generate_single_image
    monkeypatch.setattr(Flux2TinyModel, "generate_single_image", draw)
    with stop.listen():
        assert run_job(job, stop).status == "interrupted"
    assert len(drawn) == 1, "the picture was given up, and those after it"
    assert [path.name for path in (tmp_path / "output" / "job" / "state").iterdir()] == ["000000002"]


def test_a_signal_while_it_loads_or_encodes_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Flux2TinyModel.load
    for component in ("text_encoder", "vae", "transformer"):

        def load(model: Any, name: Any, wanted: str = component) -> None:
            original(model, name)
            if name == wanted:
                signal.raise_signal(signal.SIGTERM)
                pytest.fail("went on")

        monkeypatch.setattr(Flux2TinyModel, "load", load)
        stop = StopRequest()
        with stop.listen():
            assert run_job(write_job(tmp_path), stop).status == "interrupted"
    (run, *_) = read_runs(tmp_path / "output" / "job")
    assert run.status == "interrupted"
    assert "before the first step" in run.end["error"]


def test_no_secret_reaches_the_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    assert (
        run_job(write_job(tmp_path, log_dir=f"{tmp_path}/${{HF_TOKEN}}", train={"steps": 1}, save={"save_every": 1}))
        is not None
    )
    for path in (tmp_path / "output").rglob("*"):
        assert not path.is_file() or b"hf_verysecret" not in path.read_bytes(), path


def test_what_dead_writers_left_in_caches_is_swept(tmp_path: Path) -> None:
    images = write_dataset(tmp_path / "images")
    leftovers = [
        images / "_latent_cache" / f".part-{this_machine()}-4194305-1-ab",
        tmp_path / "output" / "job" / ".part-x",
    ]
    for path in leftovers:
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (0, 0))
    assert run_job(write_job(tmp_path, train={"steps": 1})).status == "done"
    assert not any(path.exists() for path in leftovers)
