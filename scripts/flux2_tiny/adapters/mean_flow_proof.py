"""Prove that the tiny FLUX.2 learned to draw in few steps: draw held-out prompts in them, without guidance.

The measure is the distance of the latents to what the base model draws from the same noise in 24 steps with guidance,
relative to the size of those. PASS: at most 0.8 times the distance of the base model's own few steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.flux2_tiny.adapters.trained_job import existing
from scripts.flux2_tiny.dataset import held_out_scenes
from scripts.flux2_tiny.draw import load_pipeline
from scripts.flux2_tiny.grid import Row, picture_grid
from scripts.flux2_tiny.proof import NUM_SHOWN, SEED
from scripts.flux2_tiny.text import MAX_LENGTH
from scripts.flux2_tiny.world import SIZE_PX
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.files import load_adapter
from toolkit.config import AdapterConfig, JobConfig, ModelConfig
from toolkit.files import whole_file
from toolkit.models.condition import Condition
from toolkit.objectives.params import TeacherParams
from toolkit.randomness import Draws
from toolkit.util.get_model import get_model_class

MOST_OF_BASE = 0.8
NUM_TEACHER_STEPS = 24
NUM_STEPS = 2
"""For a model that learned any number of steps; one that learned a fixed number is asked for that."""
BATCH_SIZE = 16


@dataclass(frozen=True)
class MeanFlowProof:
    """Distances to the guided pictures of many steps, relative to the size of their latents.

    Attributes:
        num_prompts: number of prompts.
        num_steps: number of steps in which they were drawn.
        base: distance of the base model without guidance.
        trained: distance of the trained model without guidance.
    """

    num_prompts: int
    num_steps: int
    base: float
    trained: float

    @property
    def ratio(self) -> float:
        """The trained model's distance in those of the base model."""
        return self.trained / self.base

    @property
    def passed(self) -> bool:
        """Whether the trained model is clearly closer."""
        return self.ratio <= MOST_OF_BASE

    def report(self) -> str:
        """The proof as a small table with a verdict."""
        return "\n".join(
            [
                f"{self.num_prompts} held-out prompts, {self.num_steps} steps without guidance   distance",
                f"{'base model':48}{self.base:10.3f}",
                f"{'trained':48}{self.trained:10.3f}   {self.ratio:.3f} of the base's; required <= {MOST_OF_BASE}",
                "PASS" if self.passed else "FAIL",
            ]
        )


@dataclass(frozen=True)
class Drawn:
    """One picture per prompt.

    Attributes:
        latents: normalised, [N, S, C].
        pictures: each [128, 128, 3], 0..255.
    """

    latents: Tensor
    pictures: Sequence[NDArray[np.uint8]]


def prove_mean_flow(job: JobConfig, folder: Path, *, num_prompts: int, grid: Path) -> MeanFlowProof:
    """Draw held-out prompts with and without what a job has trained, measure, and write some pictures to `grid`.

    Args:
        job: the job, whose objective learns to draw in few steps.
        folder: its output folder, with `<its name>.safetensors`, or `<its name>_adapter.safetensors` and
            `<its name>_LoRA.safetensors`.
        num_prompts: number of prompts.
        grid: where some of the pictures go.

    Raises:
        UserError: the files are missing.
    """
    process = job.training()
    params = process.train.objective_params
    assert isinstance(params, TeacherParams)
    num_steps = getattr(params, "steps", None) or NUM_STEPS
    lora = existing(folder / f"{job.name}{'_LoRA' if process.adapter else ''}.safetensors")
    adapter = existing(folder / f"{job.name}_adapter.safetensors") if process.adapter else None
    pipeline = load_pipeline(Path(process.model.name_or_path))
    prompts = [scene.caption() for scene in held_out_scenes(num_prompts, seed=SEED)]
    teacher = draw(pipeline, prompts, num_steps=NUM_TEACHER_STEPS, guidance_scale=params.guidance_scale, seed=SEED)
    base = draw(pipeline, prompts, num_steps=num_steps, guidance_scale=1.0, seed=SEED)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    with ExitStack() as stack:
        if adapter is not None:
            stack.enter_context(told_where_steps_end(pipeline, adapter, model=process.model))
        trained = draw(pipeline, prompts, num_steps=num_steps, guidance_scale=1.0, seed=SEED)
    _write_grid(grid, prompts, {"teacher": teacher, "base": base, "trained": trained})
    return MeanFlowProof(
        num_prompts,
        num_steps,
        base=distance(base.latents, teacher.latents),
        trained=distance(trained.latents, teacher.latents),
    )


@contextmanager
def told_where_steps_end(pipeline: Any, file: Path, *, model: ModelConfig) -> Iterator[None]:
    """Within the block, a mean flow adapter's file works in a pipeline of the tiny model.

    Raises:
        UserError: it is not the file of such an adapter.
    """
    own = get_model_class(model)(model, device=torch.device("cpu"), dtype=torch.float32)
    own.transformer = pipeline.transformer
    adapter = ADAPTERS["mean_flow"].load()(AdapterConfig.model_validate({"type": "mean_flow"}), None)
    adapter.attach(own, Draws(0))
    load_adapter(file, adapter)
    adapters = AdapterSet((adapter,))
    with adapters.following(pipeline), adapters.reading(Condition(torch.empty(0)), num_noisy=0):
        yield


@torch.no_grad()
def draw(pipeline: Any, prompts: Sequence[str], *, num_steps: int, guidance_scale: float, seed: int) -> Drawn:
    """One picture per prompt. Picture i depends on its prompt and on seed + i only."""
    drawn: dict[int, Tensor] = {}
    pictures: list[NDArray[np.uint8]] = []
    for start in range(0, len(prompts), BATCH_SIZE):
        part = list(prompts[start : start + BATCH_SIZE])

        def keep(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Tensor], start: int = start) -> Any:
            drawn[start] = tensors["latents"]
            return tensors

        images = pipeline(
            prompt=part,
            height=SIZE_PX,
            width=SIZE_PX,
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            max_sequence_length=MAX_LENGTH,
            generator=[torch.Generator().manual_seed(seed + start + index) for index in range(len(part))],
            callback_on_step_end=keep,
        ).images
        pictures += [np.asarray(image) for image in images]
    return Drawn(torch.cat(list(drawn.values())), pictures)


def distance(latents: Tensor, others: Tensor) -> float:
    """Root mean square of the difference, relative to that of the others."""
    return float((latents - others).square().mean().sqrt() / others.square().mean().sqrt())


def _write_grid(path: Path, prompts: Sequence[str], ways: dict[str, Drawn]) -> None:
    rows: list[Row] = [
        (label, prompts[:NUM_SHOWN] if index == 0 else [], drawn.pictures[:NUM_SHOWN])
        for index, (label, drawn) in enumerate(ways.items())
    ]
    with whole_file(path) as temporary:
        picture_grid(rows).save(temporary, quality=95)
