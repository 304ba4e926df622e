"""A finished job with adapters, loaded from its output folder, to draw with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from extensions_built_in.sd_trainer.SDTrainer import SDTrainer
from jobs.process.make_model import make_model
from jobs.process.start import Start
from jobs.process.training_checked import TrainingChecked
from scripts.flux2_tiny.draw import quick_products
from scripts.flux2_tiny.vae import to_pixels
from scripts.flux2_tiny.world import SIZE_PX
from toolkit.adapters.adapter_set import control_name, view_name
from toolkit.adapters.files import load_adapter
from toolkit.config import AdapterConfig, JobConfig, TrainingProcessConfig, load_job
from toolkit.encode.vision import encoder_of
from toolkit.encode.vision_model import load_vision_model
from toolkit.errors import UserError
from toolkit.lora.settings import read_lora_tensors
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.randomness import Draws
from toolkit.train.adapted import AdaptedWeights

NUM_STEPS = 12
BATCH_SIZE = 24
GUIDANCE_SCALE = 3.0
Inputs = Mapping[str, Tensor]
"""What an adapter sees of one example: extras of a sample's condition; empty if it is off."""


@dataclass(frozen=True)
class TrainedJob:
    """A job's model with what was trained.

    Attributes:
        config: the settings of the job's training.
        model: the model, loaded.
        weights: the adapters, and the network beside them.
    """

    config: TrainingProcessConfig
    model: BaseModel
    weights: AdaptedWeights

    @property
    def adapter(self) -> AdapterConfig:
        """The job's first adapter."""
        return self.config.adapter[0]

    def inputs_of(self, images: Sequence[Image.Image | None]) -> list[Inputs]:
        """What the first adapter sees of images, as its job shows them to it in training."""
        reads = self.adapter.choice.reads
        if reads == "view":
            encoder = load_vision_model(encoder_of(self.adapter), self.model.device)
            return [{} if image is None else {view_name(0): encoder.features(image)} for image in images]
        if reads == "control":
            return [{} if image is None else {control_name(0): self._latents_of(image)} for image in images]
        return [{} for _ in images]

    @torch.no_grad()
    def draw(self, captions: Sequence[str], inputs: Sequence[Inputs], *, seed: int) -> list[NDArray[np.uint8]]:
        """One image [128, 128, 3], 0..255, per caption. Image i depends only on caption i, inputs i and seed + i."""
        with self.weights.adapters.telling_passes_apart(self.model.transformer):
            pipeline = self.model.get_generation_pipeline()
            pipeline.set_progress_bar_config(disable=True)
            pictures: list[NDArray[np.uint8]] = []
            for start in range(0, len(captions), BATCH_SIZE):
                part = slice(start, start + BATCH_SIZE)
                pictures += self._draw(pipeline, captions[part], inputs[part], seed=seed + start)
        return pictures

    def _draw(
        self, pipeline: Any, captions: Sequence[str], inputs: Sequence[Inputs], *, seed: int
    ) -> list[NDArray[np.uint8]]:
        count, num_noisy = len(captions), self.model.num_tokens(SIZE_PX, SIZE_PX)
        extras = {name: torch.stack([own[name] for own in inputs]) for name in inputs[0]}
        condition = Condition(self.model.get_prompt_embeds(captions), extras=extras)
        with (
            warnings.catch_warnings(),
            quick_products(),
            self.weights.adapters.reading(condition, num_noisy=num_noisy) as adapted,
        ):
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            images = pipeline(
                prompt_embeds=adapted.prompt_embeds,
                negative_prompt_embeds=self.model.get_prompt_embeds([""] * count),
                height=SIZE_PX,
                width=SIZE_PX,
                num_inference_steps=NUM_STEPS,
                guidance_scale=GUIDANCE_SCALE,
                generator=[torch.Generator().manual_seed(seed + index) for index in range(count)],
            ).images
        return [np.asarray(image) for image in images]

    @torch.no_grad()
    def _latents_of(self, image: Image.Image) -> Tensor:
        return self.model.encode_images(to_pixels(image).unsqueeze(0))[0]


def finished_job(folder: Path) -> JobConfig:
    """The job that an output folder belongs to.

    Raises:
        UserError: it is not the output folder of a job.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder}: not the output folder of a job. Train one first, such as one of "
            "config/examples/train_adapter_*_tiny.yaml"
        )
    return load_job(folder / "config.yaml")


def load_trained_job(job: JobConfig, folder: Path) -> TrainedJob:
    """Load a job's model and the final files in its output folder.

    Raises:
        UserError: the job trains no adapter, or has not come to its end.
    """
    checked = TrainingChecked(Start(job, 0, job.config.process[0]))
    config = checked.config
    if not config.adapter:
        raise UserError(f"{folder}: the job trains no adapter, so there is nothing to prove")
    model = make_model(checked, notify=lambda line: None)
    for component in ("text_encoder", "vae", "transformer"):
        model.load(component)
    weights = SDTrainer(checked).make_trainable(model, Draws(0))
    assert isinstance(weights, AdaptedWeights), "the job has adapters"
    for named in weights.named:
        load_adapter(existing(folder / f"{job.name}{named.suffix}.safetensors"), named.adapter)
    if weights.network is not None:
        path = existing(folder / f"{job.name}_LoRA.safetensors")
        tensors, metadata = read_lora_tensors(path)
        weights.network.network.load_state_dict(tensors, source=str(path), metadata=metadata)
    model.transformer.eval()
    return TrainedJob(config, model, weights)


def existing(path: Path) -> Path:
    """The path of a file that a job writes at its end.

    Raises:
        UserError: it is not there.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found. Let the job run to its end first")
    return path
