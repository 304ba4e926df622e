"""Prove that the tiny FLUX.2 learned to draw in few steps: draw held-out prompts in two steps without guidance.

    python -m scripts.flux2_tiny.adapters.mean_flow_proof output/flux2_tiny_mean_flow

The measure is the distance of the latents to what the base model draws from the same noise in 24 steps with guidance,
relative to the size of those. PASS: at most 0.8 times the distance of the base model's own two steps. Exit code 0 on
PASS, 1 on FAIL, 2 if there is nothing to prove.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.flux2_tiny.dataset import held_out_scenes
from scripts.flux2_tiny.draw import load_pipeline
from scripts.flux2_tiny.proof import SEED, TINY_MODEL, proof_parser, run_proof
from scripts.flux2_tiny.text import MAX_LENGTH
from scripts.flux2_tiny.world import SIZE_PX
from toolkit.adapters.adapter_set import AdapterSet
from toolkit.adapters.choices import ADAPTERS
from toolkit.adapters.files import load_adapter
from toolkit.config import AdapterConfig, ModelConfig
from toolkit.errors import UserError
from toolkit.models.condition import Condition
from toolkit.randomness import Draws
from toolkit.util.get_model import get_model_class

MOST_OF_BASE = 0.8
NUM_TEACHER_STEPS = 24
NUM_STEPS = 2
GUIDANCE_SCALE = 3.0  # as in the example jobs
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


def prove_mean_flow(
    folder: Path, *, model: Path = TINY_MODEL, num_prompts: int = 48, num_steps: int = NUM_STEPS, seed: int = SEED
) -> MeanFlowProof:
    """Draw held-out prompts with and without what a run has trained, and measure.

    Args:
        folder: the run's output folder, with `<its name>.safetensors`, or `<its name>_adapter.safetensors` and
            `<its name>_LoRA.safetensors`.
        model: the tiny FLUX.2.
        num_prompts: number of prompts.
        num_steps: number of steps without guidance.
        seed: of prompts and noise.

    Raises:
        UserError: the files or the model are missing.
    """
    adapter, lora = (folder / f"{folder.name}{suffix}.safetensors" for suffix in ("_adapter", "_LoRA"))
    if not adapter.is_file():
        lora = folder / f"{folder.name}.safetensors"
    if not lora.is_file():
        raise UserError(f"{lora}: not found. Train it: python run.py config/examples/train_adapter_mean_flow_tiny.yaml")
    if not (model / "model_index.json").is_file():
        raise UserError(f"{model}: no tiny FLUX.2 found. Make it: python -m scripts.make_flux2_tiny")
    pipeline = load_pipeline(model)
    prompts = [scene.caption() for scene in held_out_scenes(num_prompts, seed=seed)]
    teacher = draw_latents(pipeline, prompts, num_steps=NUM_TEACHER_STEPS, guidance_scale=GUIDANCE_SCALE, seed=seed)
    base = draw_latents(pipeline, prompts, num_steps=num_steps, guidance_scale=1.0, seed=seed)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    with ExitStack() as stack:
        if adapter.is_file():
            stack.enter_context(told_where_steps_end(pipeline, adapter, model=model))
        trained = draw_latents(pipeline, prompts, num_steps=num_steps, guidance_scale=1.0, seed=seed)
    return MeanFlowProof(num_prompts, num_steps, base=distance(base, teacher), trained=distance(trained, teacher))


@contextmanager
def told_where_steps_end(pipeline: Any, file: Path, *, model: Path) -> Iterator[None]:
    """Within the block, a mean flow adapter's file works in a pipeline of the tiny model.

    Raises:
        UserError: it is not the file of such an adapter.
    """
    config = ModelConfig.model_validate({"name_or_path": str(model), "arch": "flux2_tiny"})
    own = get_model_class(config)(config, device=torch.device("cpu"), dtype=torch.float32)
    own.transformer = pipeline.transformer
    adapter = ADAPTERS["mean_flow"].load()(AdapterConfig.model_validate({"type": "mean_flow"}), None)
    adapter.attach(own, Draws(0))
    load_adapter(file, adapter)
    adapters = AdapterSet((adapter,))
    with adapters.following(pipeline), adapters.reading(Condition(torch.empty(0)), num_noisy=0):
        yield


@torch.no_grad()
def draw_latents(pipeline: Any, prompts: Sequence[str], *, num_steps: int, guidance_scale: float, seed: int) -> Tensor:
    """Normalised latents of one picture per prompt, [N, S, C]. Picture i depends on its prompt and on seed + i only."""
    drawn: dict[int, Tensor] = {}
    for start in range(0, len(prompts), BATCH_SIZE):
        part = list(prompts[start : start + BATCH_SIZE])

        def keep(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Tensor], start: int = start) -> Any:
            drawn[start] = tensors["latents"]
            return tensors

        pipeline(
            prompt=part,
            height=SIZE_PX,
            width=SIZE_PX,
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            max_sequence_length=MAX_LENGTH,
            generator=[torch.Generator().manual_seed(seed + start + index) for index in range(len(part))],
            callback_on_step_end=keep,
            output_type="latent",
        )
    return torch.cat(list(drawn.values()))


def distance(latents: Tensor, others: Tensor) -> float:
    """Root mean square of the difference, relative to that of the others."""
    return float((latents - others).square().mean().sqrt() / others.square().mean().sqrt())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = proof_parser("adapters.mean_flow_proof", __doc__, folder="the run's output folder")
    parser.add_argument("--model", type=Path, default=TINY_MODEL, help="the tiny FLUX.2 (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=48, help="number of prompts (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help="number of steps (default: %(default)s)")
    options = parser.parse_args(arguments)
    folder: Path = options.output_folder.resolve()
    return run_proof(
        lambda: prove_mean_flow(folder, model=options.model, num_prompts=options.prompts, num_steps=options.steps),
        record=folder / "mean_flow_proof.json",
        report=report,
        closing="",
        derived=("ratio", "passed"),
    )


def report(proof: MeanFlowProof) -> str:
    """The proof as a small table with a verdict."""
    return "\n".join(
        [
            f"{proof.num_prompts} held-out prompts, {proof.num_steps} steps without guidance   distance",
            f"{'base model':48}{proof.base:10.2f}",
            f"{'trained':48}{proof.trained:10.2f}   {proof.ratio:.2f} of the base's; required <= {MOST_OF_BASE}",
            "PASS" if proof.passed else "FAIL",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
