"""An entry of `process` that trains a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from toolkit.cards import ModelCard, find_cards
from toolkit.compute.choices import AUTO
from toolkit.compute.machine import mistake_of
from toolkit.config.adapter import AdapterConfig, Adapters, clash_of
from toolkit.config.dataset import Color, DatasetConfig
from toolkit.config.datasets.use import share_mistake
from toolkit.config.logging import LoggingConfig
from toolkit.config.model import ModelConfig
from toolkit.config.network import NetworkConfig
from toolkit.config.paths import UserPath
from toolkit.config.process import Findings, ProcessConfig
from toolkit.config.reading.training import prepare_training
from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.config.sample import SampleConfig
from toolkit.config.save import SaveConfig
from toolkit.config.seed import Seed
from toolkit.config.train import TrainConfig, ValidationConfig
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.params import SliderParams
from toolkit.section import Harmless, Shown


def _is_drawn(context: KeyContext) -> bool:
    train = context.process.train
    return not train.disable_sampling and (not train.skip_first_sample or train.force_first_sample)


_FIRST_DRAWN = OnlyWith("without `train.skip_first_sample` and `train.disable_sampling`", _is_drawn)


class TrainingProcessConfig(ProcessConfig):
    """One entry of `config.process`: a training run."""

    keeps_checkpoints: ClassVar[bool] = True

    trigger_word: Annotated[str | None, Shown(level="basic")] = Field(
        None, description="Word for what is learned; it replaces `[trigger]` in captions and sample prompts."
    )
    training_seed: Annotated[Seed, Shown(widget="seed")] = Field(
        42, description="Seed of every random draw in training."
    )
    log_dir: Harmless[
        Annotated[UserPath | None, Shown(label="TensorBoard folder", level="expert", widget="folder")]
    ] = Field(None, description="Folder for TensorBoard logs. Unset: no logs.")
    model: ModelConfig = Field(description="The base model.")
    network: NetworkConfig | None = Field(
        None, description="The network to train. To train without one, set `train.full_finetune: true`."
    )
    adapter: Adapters = Field(
        (), description="Adapters to train, with or without a network beside them: one mapping, or a list."
    )
    datasets: tuple[DatasetConfig, ...] = Field(min_length=1, description="The training images.")
    train: TrainConfig = Field(TrainConfig(), description="The training loop.")
    slider: SliderParams | None = Field(
        None,
        description="Settings of `type: concept_slider`: `train.objective_params` of `objective: concept_slider`.",
    )
    save: Harmless[SaveConfig] = Field(SaveConfig(), description="Checkpoints.")
    sample: Harmless[SampleConfig] = Field(SampleConfig(), description="Samples generated during training.")
    first_sample: Harmless[Annotated[SampleConfig | None, _FIRST_DRAWN]] = Field(
        None, description="Replaces `sample` for the samples before the first step."
    )
    logging: Harmless[LoggingConfig] = Field(LoggingConfig(), description="Metrics.")

    @property
    def largest_batch(self) -> int:
        """Number of images in the largest batch of any dataset."""
        return max((dataset.batch_size or self.train.batch_size for dataset in self.datasets), default=1)

    @property
    def told_apart(self) -> tuple[str, ...]:
        """What the datasets are called in the log, such as `0 cats`; empty if there is only one."""
        names = [f"{at} {dataset.folder_path.name}".replace(",", " ") for at, dataset in enumerate(self.datasets)]
        return tuple(names) if len(names) > 1 else ()

    @property
    def control_adapter(self) -> AdapterConfig | None:
        """The adapter that reads control pictures; None without one."""
        return next((adapter for adapter in self.adapter if adapter.choice.reads == "control"), None)

    @property
    def num_control_folders(self) -> int:
        """How many folders of each dataset's `control_path` hold control pictures; the others hold references."""
        return 0 if self.control_adapter is None else self.control_adapter.num_control_folders

    @property
    def num_control_images(self) -> int:
        """How many `ctrl_img` of each sample are control pictures; the others are references."""
        return 0 if self.control_adapter is None else self.control_adapter.num_control_images

    @property
    def cell_px(self) -> int | None:
        """Side of a square of pixels that takes the place of a latent; None unless a run is without a VAE."""
        pixels = next((adapter for adapter in self.adapter if adapter.choice.is_in_pixels), None)
        return None if pixels is None else pixels.subpixel_downscale_factor

    @property
    def is_in_pixels(self) -> bool:
        """Whether the transformer is trained on pixels, without a VAE."""
        return self.cell_px is not None

    @property
    def card(self) -> ModelCard | None:
        """The card of the model as this run trains it; None if there is no such model."""
        card = find_cards().get(self.model.arch)
        return card if card is None or self.cell_px is None else card.in_pixels(token_px=2 * self.cell_px)

    @property
    def without(self) -> frozenset[str]:
        """The model's components that this run neither loads nor needs."""
        return frozenset({"vae"}) if self.is_in_pixels else frozenset()

    @property
    def view_background(self) -> Color:
        """Color behind transparent pixels of the pictures that adapters see in samples."""
        return self._of_first_dataset("background_color")

    @property
    def reference_background(self) -> Color:
        """Color behind transparent pixels of the reference and control pictures of samples."""
        return self._of_first_dataset("control_transparent_color")

    def _of_first_dataset(self, key: str) -> Color:
        """A color of the first dataset; without datasets, as in drawing, its default."""
        color: Color = getattr(self.datasets[0], key) if self.datasets else DatasetConfig.model_fields[key].default
        return color

    @property
    def uses_captions(self) -> bool:
        """Whether images are trained with their captions; if not, each is trained as if its caption were dropped.

        ai-toolkit unloads the text encoder after caching the captions: with cached captions, they are used.
        """
        train = self.train
        is_cached = train.cache_text_embeddings or any(dataset.cache_text_embeddings for dataset in self.datasets)
        return (is_cached or not train.unload_text_encoder) and OBJECTIVES[train.objective].reads_captions

    @property
    def embeds_text(self) -> bool:
        """Whether texts are kept as the transformer's first layer for them gives them: fewer numbers for the same step.

        Not where that layer may be trained, where another LoRA may change it, as in drawing, or where an adapter adds
        rows to what it reads, nor where samples are drawn on other weights.
        """
        if not self.datasets:  # a drawing
            return False
        if self.card is None or not self.card.text_layer_width or self.train.full_finetune:
            return False
        if self.model.assistant_lora_path is not None or not (self.network or self.adapter):
            return False
        if self.sample.model is not None:
            return False
        is_network_elsewhere = self.network is None or self.network.transformer_only
        return is_network_elsewhere and not any(adapter.choice.adds_rows for adapter in self.adapter)

    @property
    def validation(self) -> ValidationConfig | None:
        """How the run is measured while it trains; a dataset that is only for validation asks for that too."""
        return self.train.validation_with(has_dataset=any(dataset.validation for dataset in self.datasets))

    @property
    def preserves_output(self) -> bool:
        """Whether any dataset preserves the class of its trigger word."""
        return any(self.preserves_class(dataset) for dataset in self.datasets)

    def preserves_class(self, dataset: DatasetConfig) -> bool:
        """Whether a dataset preserves the class of its trigger word."""
        own = dataset.diff_output_preservation
        return self.train.diff_output_preservation if own is None else own

    @classmethod
    def prepare(cls, entry: dict[str, Any], cards: Mapping[str, ModelCard]) -> Findings:
        """See ProcessConfig.prepare. Fills in the defaults of the model's card."""
        return prepare_training(entry, cards)

    def run_facts(self) -> dict[str, Any]:
        """See ProcessConfig.run_facts."""
        return {"seed": self.training_seed}

    @model_validator(mode="after")
    def _adapters_go_together(self) -> TrainingProcessConfig:
        if (mistake := clash_of(self.adapter)) is not None:
            raise ValueError(mistake)
        kinds = [adapter.type for adapter in self.adapter]
        if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
            raise ValueError(
                f"`adapter` has {kinds.count(twice)} times `{twice}`, but each kind is saved as one file: keep one"
            )
        return self

    @model_validator(mode="after")
    def _network_can_be_merged(self) -> TrainingProcessConfig:
        if not self.train.merge_network_on_save:
            return self
        if self.network is None:
            raise ValueError("`train.merge_network_on_save` merges a network, and this job trains none: remove it")
        if self.adapter:
            raise ValueError(
                "`train.merge_network_on_save` does not work with `adapter`: remove one of the two, and merge the "
                "network's file with `python -m toolkit.lora merge`"
            )
        return self

    def _ranks_can_share(self) -> None:
        train = self.train
        kinds = [adapter.type for adapter in self.adapter if adapter.choice.needs_whole_sequence]
        if train.context_parallel > 1 and kinds:
            raise ValueError(
                f"`train.context_parallel: {train.context_parallel}` distributes tokens over processes, but "
                f"`adapter.type: {kinds[0]}` must know which of them belong to the noisy image: remove one of the two"
            )

    @model_validator(mode="after")
    def _datasets_go_together(self) -> TrainingProcessConfig:
        if all(dataset.validation for dataset in self.datasets):
            raise ValueError("every dataset is for `validation` only, so there is nothing to train on")
        if (mistake := share_mistake([dataset for dataset in self.datasets if not dataset.validation])) is not None:
            raise ValueError(mistake)
        if self.network is None and any(dataset.network_weight != 1 for dataset in self.datasets):
            raise ValueError("`network_weight` of a dataset scales a network, and this job trains none: remove it")
        return self

    @model_validator(mode="after")
    def _split_fits_the_settings(self) -> TrainingProcessConfig:
        model = self.model
        if not model.split_model_over_gpus:
            return self
        if self.device not in ("auto", "cuda"):
            raise ValueError(
                f"`model.split_model_over_gpus` uses every GPU that the job sees, and `device: {self.device}` is one "
                "device: set `device: cuda`, and choose GPUs with the environment variable CUDA_VISIBLE_DEVICES"
            )
        if model.layer_offloading and model.layer_offloading_transformer_percent != 0:
            raise ValueError(
                "`model.split_model_over_gpus` keeps all layers on the GPUs, and `model.layer_offloading` streams them "
                "from RAM: keep one of them, or set `layer_offloading_transformer_percent: 0` to stream the text "
                "encoder only"
            )
        train = self.train
        if train.sharding == "full" or train.context_parallel > 1:
            key = "train.sharding: full" if train.sharding == "full" else "train.context_parallel"
            raise ValueError(
                f"`model.split_model_over_gpus` uses all GPUs from one process, and `{key}` needs a process for each: "
                "remove one of the two"
            )
        return self

    @model_validator(mode="after")
    def _memory_settings_fit_the_training(self) -> TrainingProcessConfig:
        model, train = self.model, self.train
        if train.sharding == "full" and model.layer_offloading and model.layer_offloading_transformer_percent != 0:
            raise ValueError(
                "`train.sharding: full` and `model.layer_offloading` both move the transformer's blocks: set "
                "`layer_offloading_transformer_percent: 0` to stream the text encoder only, or remove one of the two"
            )
        self._ranks_can_share()
        if train.full_finetune and model.quantize:
            raise ValueError("`model.quantize` works on frozen weights only, and a full fine-tune has none: remove it")
        if train.full_finetune and model.compute not in ("bf16", AUTO):
            raise ValueError(
                f"`model.compute: {model.compute}` is for frozen weights only, and a full fine-tune has none: remove it"
            )
        if train.full_finetune and model.compile:
            raise ValueError(
                "`model.compile` is for blocks whose weights are frozen, and a full fine-tune has none: remove it"
            )
        if (mistake := mistake_of(model.compute, quantize=model.quantize, qtype=model.qtype)) is not None:
            raise ValueError(f"`model.compute`: {mistake}")
        if train.full_finetune and model.layer_offloading and model.layer_offloading_transformer_percent != 0:
            raise ValueError(
                "`model.layer_offloading` works on frozen weights only, and the transformer of a full fine-tune has "
                "none: set `layer_offloading_transformer_percent: 0` to stream the text encoder only, or remove it"
            )
        if model.activation_offloading and not train.gradient_checkpointing:
            raise ValueError(
                "`model.activation_offloading` moves what gradient checkpointing stores: set "
                "`train.gradient_checkpointing: true`, or remove it"
            )
        return self
