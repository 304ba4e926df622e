"""Jobs that train for few steps: what is refused, what is resumed, and what others do with the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline

from jobs.job import Job
from tests.tiny import TINY, StopAfter, losses, problems_of, run_job, write_job
from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.config.compat.capabilities import beyond_the_model
from toolkit.weights.tensor_files import read_metadata, read_tensors

ANY = {"adapter": {"type": "mean_flow"}, "train": {"objective": "mean_flow"}}
DERIVED = {"adapter": {"type": "mean_flow"}, "train": {"objective": "jvp"}}
FIXED = {"train": {"objective": "mean_flow", "objective_params": {"steps": 2, "teacher_steps": 1}}}


def _with(sections: dict[str, Any], /, **train: Any) -> dict[str, Any]:
    return {**sections, "train": {**sections["train"], **train}}


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "any number of steps without the adapter": (_with(ANY), {"adapter": None}, "must be told where a step ends"),
    "alpha flow without the adapter": ({"train": {"objective": "alpha_flow"}}, {}, "must be told where a step ends"),
    "the adapter without the objective": (
        {"adapter": {"type": "mean_flow"}},
        {},
        "adapter: a mean_flow adapter learns where steps end only from an objective with steps",
    ),
    "the adapter with a fixed schedule": (FIXED, {"adapter": {"type": "mean_flow"}}, "would have no effect"),
    "a full fine-tune": (_with(FIXED, full_finetune=True), {"network": None}, "mean_flow compares the model with"),
    "a full fine-tune with the adapter": (_with(ANY, full_finetune=True), {"network": None}, "works on a frozen model"),
    "a derivative in bf16": (_with(DERIVED, dtype="bf16"), {}, "which is noise in bf16: write `dtype: fp32`"),
    "a derivative of quantized layers": (
        DERIVED,
        {"model": {"quantize": True, "qtype": "qfloat8"}},
        "model.quantize: `objective: jvp` takes the derivative",
    ),
    "another loss and objective": (
        {"train": {"loss_type": "mean_flow", "objective": "velocity"}},
        {},
        "train.loss_type: `mean_flow` means `objective: mean_flow`",
    ),
    "no steps of the teacher": (
        _with(ANY, objective_params={"teacher_steps": 0}),
        {},
        "train.objective_params.teacher_steps",
    ),
    "no steps of the result": (_with(FIXED, objective_params={"steps": 0}), {}, "train.objective_params.steps"),
    "half a step": (_with(FIXED, objective_params={"steps": 1.5}), {}, "train.objective_params.steps"),
    "alpha 0": (
        {**ANY, "train": {"objective": "alpha_flow", "objective_params": {"alpha_end": 0}}},
        {},
        "train.objective_params.alpha_end",
    ),
    "alpha that rises": (
        {**ANY, "train": {"objective": "alpha_flow", "objective_params": {"alpha_start": 0.1, "alpha_end": 0.5}}},
        {},
        "alpha_end (0.5) is above alpha_start (0.1)",
    ),
    "steps of another objective": (
        {**ANY, "train": {"objective": "alpha_flow", "objective_params": {"steps": 4}}},
        {},
        "train.objective_params.steps: unknown key",
    ),
    "settings of an objective that has none": (
        {"train": {"objective_params": {"teacher_steps": 4}}},
        {},
        "train.objective_params.teacher_steps: unknown key",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused_before_weights_are_read(case: str, tmp_path: Path) -> None:
    sections, more, what = REFUSED[case]
    (problem,) = problems_of(tmp_path, **{**sections, **more})
    assert what in problem


def test_an_adapter_that_the_teacher_does_not_have_is_refused(tmp_path: Path) -> None:
    redux = {"type": "redux", "image_encoder_path": str(tmp_path)}
    problems = problems_of(tmp_path, **{**ANY, "adapter": [{"type": "mean_flow"}, redux]})
    assert any("without the redux adapter, which would learn to do nothing" in problem for problem in problems)


@pytest.mark.parametrize(
    ("arch", "train", "what"),
    [
        ("flux", {"bypass_guidance_embedding": True}, "train.bypass_guidance_embedding: the teacher gets its guidance"),
        (
            "flux2_klein_9b_kv",
            {"objective_params": {"guidance_scale": 3}},
            "train.objective_params.guidance_scale: FLUX.2 [klein] 9B KV works with guidance 1 only",
        ),
    ],
)
def test_guidance_that_a_model_cannot_have_is_refused(
    arch: str, train: dict[str, Any], what: str, tmp_path: Path
) -> None:
    process = load_job(write_job(tmp_path, **_with(ANY, **train))).training()
    (problem,) = beyond_the_model(process, find_cards()[arch])
    assert what in str(problem)


def test_the_spelling_of_ai_toolkit_selects_the_objective(tmp_path: Path) -> None:
    path = write_job(tmp_path, adapter={"type": "mean_flow"}, train={"loss_type": "mean_flow"})
    train = load_job(path).training().train
    assert (train.objective, train.loss_type) == ("mean_flow", "mse")


def test_a_key_that_the_objective_does_not_read_is_told(tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path, **_with(ANY, content_or_style="content")))
    (notice,) = job.notices
    assert "train.content_or_style" in notice
    assert "objectives that learn at one noise level" in notice


def test_what_the_teacher_avoids_is_encoded_with_the_captions(tmp_path: Path) -> None:
    params = {"negative_prompt": "blurry", "teacher_steps": 3}
    (checked,) = Job(load_job(write_job(tmp_path, **_with(ANY, objective_params=params)))).checks()
    needs: Any = checked.needs  # type: ignore[attr-defined]
    assert "blurry" in needs.captions
    assert needs.passes.without_gradient == 6
    assert not needs.keeps("text_encoder")


@pytest.mark.parametrize("sections", [ANY, FIXED], ids=["any step", "fixed"])
def test_a_resumed_run_repeats_every_loss_and_weight_bit_for_bit(sections: dict[str, Any], tmp_path: Path) -> None:
    """Four seconds each: three runs of two or four steps."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = _with(sections, steps=4)
    for folder in (whole, parts):
        folder.mkdir()
    run_job(write_job(whole, save={"save_every": 2}, **settings))
    path = write_job(parts, save={"save_every": 2}, **settings)
    run_job(path, StopAfter(12))
    run_job(path)
    assert losses(parts / "output" / "job") == losses(whole / "output" / "job")
    for file in (whole / "output" / "job").glob("job*.safetensors"):
        one, other = read_tensors(file), read_tensors(parts / "output" / "job" / file.name)
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items()), file


def test_an_adapter_and_a_lora_have_files_of_their_own(tmp_path: Path) -> None:
    run_job(write_job(tmp_path, **_with(ANY, steps=1, objective_params={"teacher_steps": 1})))
    folder = tmp_path / "output" / "job"
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [
        "job_LoRA.safetensors",
        "job_adapter.safetensors",
    ]
    tensors = read_tensors(folder / "job_adapter.safetensors")
    assert sorted(tensors) == [f"target_timestep_embedder.linear_{index}.weight" for index in (1, 2)]
    assert read_metadata(folder / "job_adapter.safetensors")["adapter_type"] == "mean_flow"


def test_the_file_of_a_fixed_schedule_is_a_lora_that_diffusers_samples_with_that_many_steps(tmp_path: Path) -> None:
    """Five seconds: a short run and two pictures."""
    run_job(write_job(tmp_path, **_with(FIXED, steps=2, lr=1e-2)))
    pipeline = Flux2KleinPipeline.from_pretrained(TINY, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        settings = {"height": 64, "width": 64, "num_inference_steps": 2, "guidance_scale": 1.0}
        latents: torch.Tensor = pipeline(
            prompt="a red circle", **settings, max_sequence_length=48, generator=generator, output_type="latent"
        ).images
        return latents

    before = draw()
    pipeline.load_lora_weights(tmp_path / "output" / "job", weight_name="job.safetensors")
    after = draw()
    assert after.isfinite().all()
    assert not torch.allclose(after, before, atol=1e-3)
