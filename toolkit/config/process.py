"""One entry of `process`: one training run."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator, model_validator

from toolkit.config.dataset import DatasetConfig
from toolkit.config.logging import LoggingConfig
from toolkit.config.model import ModelConfig
from toolkit.config.network import NetworkConfig
from toolkit.config.paths import UserPath
from toolkit.config.reading.known import Known
from toolkit.config.reading.suggest import did_you_mean
from toolkit.config.sample import SampleConfig
from toolkit.config.save import SaveConfig
from toolkit.config.train import TrainConfig
from toolkit.section import Harmless, Section

LONGEST_NAME_BYTES = 200  # file systems take 255, of which a checkpoint's step and extension need some


class ProcessConfig(Section):
    """One entry of `config.process`."""

    type: Harmless[str] = Field(description="Kind of process, such as sd_trainer.")
    name: Harmless[str | None] = Field(
        None, min_length=1, description="Name of the output folder. Unset: the name of the job."
    )
    training_folder: Harmless[UserPath] = Field(Path("output"), description="Folder of all output folders.")
    device: Harmless[str] = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto (the best here), cpu, mps, cuda or cuda:N.",
    )
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

    def output_folder(self, job_name: str) -> Path:
        """Where everything of this process is written."""
        return self.training_folder / (self.name or job_name)

    @model_validator(mode="after")
    def _memory_settings_fit_the_training(self) -> ProcessConfig:
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

    @field_validator("type")
    @classmethod
    def _must_be_known(cls, kind: str, info: ValidationInfo[Known | None]) -> str:
        if info.context is not None and kind not in info.context.processes:
            known = sorted(info.context.processes)
            raise ValueError(f'no process type "{kind}".{did_you_mean(kind, known)} Known: {", ".join(known)}')
        return kind

    @field_validator("name")
    @classmethod
    def _must_be_folder_name(cls, name: str | None) -> str | None:
        return None if name is None else must_be_folder_name(name)


def must_be_folder_name(name: str) -> str:
    """`name`, which becomes a folder and the beginning of file names.

    Raises:
        ValueError: it cannot.
    """
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME_BYTES:
        raise ValueError(f'"{name[:30]}..." becomes a folder name and needs at most {LONGEST_NAME_BYTES} bytes')
    if name.strip() != name or name in (".", "..") or any(sign in '/\\<>:"|?*' or ord(sign) < 32 for sign in name):
        raise ValueError(f'"{name}" becomes a folder name: no / \\ < > : " | ? * and no space at its ends')
    return name
