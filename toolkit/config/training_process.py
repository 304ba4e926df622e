"""An entry of `process` that trains a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from toolkit.cards import ModelCard
from toolkit.config.dataset import DatasetConfig
from toolkit.config.logging import LoggingConfig
from toolkit.config.model import ModelConfig
from toolkit.config.network import NetworkConfig
from toolkit.config.paths import UserPath
from toolkit.config.process import ProcessConfig, Settled
from toolkit.config.reading.training import settle_training
from toolkit.config.sample import SampleConfig
from toolkit.config.save import SaveConfig
from toolkit.config.train import TrainConfig
from toolkit.section import Harmless


class TrainingProcessConfig(ProcessConfig):
    """One entry of `config.process`: a training run."""

    keeps_checkpoints: ClassVar[bool] = True

    trigger_word: str | None = Field(None, description="Word that stands for what is learned; `[trigger]` in captions.")
    training_seed: int = Field(42, ge=0, description="Seed of every random choice in training.")
    log_dir: Harmless[UserPath | None] = Field(None, description="Folder for TensorBoard logs. Unset: none.")
    model: ModelConfig = Field(description="The base model.")
    network: NetworkConfig | None = Field(None, description="What is trained. Without it: `train.full_finetune: true`.")
    datasets: tuple[DatasetConfig, ...] = Field(min_length=1, description="The images.")
    train: TrainConfig = Field(TrainConfig(), description="The loop.")
    save: Harmless[SaveConfig] = Field(SaveConfig(), description="Checkpoints.")
    sample: Harmless[SampleConfig] = Field(SampleConfig(), description="Samples.")
    first_sample: Harmless[SampleConfig | None] = Field(
        None, description="Another `sample` for those before the first step."
    )
    logging: Harmless[LoggingConfig] = Field(LoggingConfig(), description="Figures.")

    @classmethod
    def settle(cls, entry: dict[str, Any], cards: Mapping[str, ModelCard]) -> Settled:
        """See ProcessConfig.settle: the defaults of the model's card are put beneath."""
        return settle_training(entry, cards)

    def run_facts(self) -> dict[str, Any]:
        """See ProcessConfig.run_facts."""
        return {"seed": self.training_seed}

    @model_validator(mode="after")
    def _memory_settings_fit_the_training(self) -> TrainingProcessConfig:
        model, train = self.model, self.train
        if train.full_finetune and model.quantize:
            raise ValueError("`model.quantize` is for frozen weights, and a full fine-tune has none: remove it")
        if train.full_finetune and model.layer_offloading and model.layer_offloading_transformer_percent != 0:
            raise ValueError(
                "`model.layer_offloading` is for frozen weights, and the transformer of a full fine-tune has none: set "
                "`layer_offloading_transformer_percent: 0` to stream the text encoder only, or remove it"
            )
        if model.activation_offloading and not train.gradient_checkpointing:
            raise ValueError(
                "`model.activation_offloading` is about what gradient checkpointing stores: set "
                "`train.gradient_checkpointing: true`, or remove it"
            )
        return self
