"""The real loop around a FLUX.2 transformer of next to no size: whole runs in a tenth of a second."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor

from tests.tiny import tiny_model
from toolkit.config import DatasetConfig, ModelConfig, NetworkConfig, SaveConfig, TrainConfig, TrainingProcessConfig
from toolkit.data.examples import Example
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.output.events import EventLog, read_events
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.runtime.progress import Progress
from toolkit.runtime.stop import StopRequest
from toolkit.train.learner import build_learner
from toolkit.train.loop import Loop
from toolkit.train.recorder import Recorder
from toolkit.train.resume import ResumeChoice, move_unowned_aside, plan_resume
from toolkit.train.run_facts import RunFacts
from toolkit.train.stages import Stages
from toolkit.train.step import Stepper
from toolkit.train.tasks.saver import Saver
from toolkit.train.tasks.task import SaveTask, Task
from toolkit.train.trainable import NetworkWeights, TrainableWeights, TransformerWeights
from toolkit.train.validation.grid import Grid
from toolkit.train.validation.of_run import Validation

STEPS = 6
STEPS_PER_EPOCH = 2
TEXT_WIDTH = 12


class Crash(Exception):
    """The run dies before a step."""


@dataclass(frozen=True)
class SmallRun:
    """What shapes a run."""

    train: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] | None = field(default_factory=lambda: {"type": "lora", "linear": 2, "dropout": 0.3})
    save: Mapping[str, Any] = field(default_factory=dict)
    grid: Grid | None = None

    def run(
        self,
        folder: Path,
        *,
        stop_in: int = 0,
        crash_in: int = 0,
        resume: ResumeChoice | None = None,
        tasks: Sequence[Task] = (),
    ) -> None:
        """Run to the end, or ask to stop while step `stop_in` (from 1) is made, or die before `crash_in` is.

        `tasks` come after saving.
        """
        train = TrainConfig.model_validate(
            {"steps": STEPS, "lr": 0.01, "dtype": "fp32", "full_finetune": self.network is None, **self.train}
        )
        save = SaveConfig.model_validate({"save_every": 2, "dtype": "fp32", **self.save})
        draws, model, stop = Draws(3), small_model(), StopRequest()
        ranks, weights = OneProcess(), self._weights(model, draws)
        learner = build_learner(model, weights, train, draws=draws, ranks=ranks)
        facts = RunFacts("job", {"training_seed": 3, "train": train.model_dump(mode="json")}, {"image": "hash"})
        plan = plan_resume(folder, resume or ResumeChoice(), facts, is_thorough=True)
        folder.mkdir(parents=True, exist_ok=True)
        notice = move_unowned_aside(plan, folder)
        with EventLog(folder / "events.jsonl") as events:
            stages = Stages(events, Progress())
            if notice is not None:
                stages.warn(notice)
            with Recorder(events, stages.progress, log_dir=None, log_every=1) as recorder:
                validation = Validation(self._config(train, save), self.grid, plan.bundle)
                saver = Saver(folder, save, learner, facts=facts, metadata=_metadata, documents=validation.documents)
                saving = SaveTask(saver, stages, epochs_done=lambda step: step // STEPS_PER_EPOCH)
                start = saving.resume(plan, train.steps, ranks)
                feeder: Any = _Feeder(draws, stop, stop_in, crash_in, train.gradient_accumulation)
                validate = validation.task(feeder, saver, stages, recorder, in_place=lambda: None)
                Loop(
                    feeder=feeder,
                    stepper=Stepper(learner, OBJECTIVES["velocity"].load().from_config(train), draws, ranks),
                    tasks=(*([] if validate is None else [validate]), saving, *tasks),
                    recorder=recorder,
                    progress=stages.progress,
                    ranks=ranks,
                ).run(start, train.steps, stop, is_enough=validation.is_enough)

    def _config(self, train: TrainConfig, save: SaveConfig) -> TrainingProcessConfig:
        model, dataset = ModelConfig(name_or_path="small", arch="small"), DatasetConfig(folder_path=Path())
        return TrainingProcessConfig(type="sd_trainer", model=model, datasets=(dataset,), train=train, save=save)

    def _weights(self, model: BaseModel, draws: Draws) -> TrainableWeights:
        if self.network is None:
            weights = TransformerWeights(model, save_format="safetensors")
            weights.unfreeze()
            return weights
        network = Network(model, NetworkConfig.model_validate(self.network), draws)
        network.apply()
        return NetworkWeights(network)


def texts(folder: Path) -> list[str]:
    """The messages that the run showed to its user."""
    return [event["text"] for event in read_events(folder / "events.jsonl") if "text" in event]


def small_model() -> BaseModel:
    """Random, the same each time, and in fp32."""
    torch.manual_seed(0)
    model = tiny_model()
    model.transformer = Flux2Transformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        timestep_guidance_channels=8,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    ).requires_grad_(False)
    return model


def _metadata(step: int) -> dict[str, str]:
    return {"training_info": json.dumps({"step": step})}


class _Feeder:
    """Batches made of nothing but their number."""

    def __init__(self, draws: Draws, stop: StopRequest, stop_in: int, crash_in: int, accumulation: int) -> None:
        self.draws = draws
        self.stop = stop
        self.stop_in = stop_in
        self.crash_in = crash_in
        self.accumulation = accumulation

    def batches(self, step: int) -> list[Batch]:
        if step + 1 == self.stop_in:
            self.stop.request()
        if step + 1 == self.crash_in:
            raise Crash
        return [self._batch(step * self.accumulation + part) for part in range(self.accumulation)]

    def num_samples(self, step: int) -> int:
        return 2 * self.accumulation

    def fixed(self, example: Example, text: str, count: int) -> Batch:
        """The image and the words depend on nothing but their names."""
        latents = self.draws.normal((64, 2, 2), "latents", example.content_hash).expand(count, -1, -1, -1)
        embeds = self.draws.normal((3, TEXT_WIDTH), "embeds", text).expand(count, -1, -1)
        return Batch(0, latents, Condition(embeds), torch.ones(count), num_tokens=4)

    def _batch(self, index: int) -> Batch:
        latents: Tensor = self.draws.normal((2, 64, 2, 2), "latents", index)
        embeds = self.draws.normal((2, 3, TEXT_WIDTH), "embeds", index)
        return Batch(index, latents, Condition(embeds), torch.ones(2), num_tokens=4)
