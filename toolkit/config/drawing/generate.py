"""`job: generate`: pictures from a list of prompts, drawn with a model and LoRAs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from toolkit.cards import ModelCard, find_cards
from toolkit.choice import Spellings
from toolkit.config.adapter import Adapters, clash_of
from toolkit.config.compat.released import wrong_arch
from toolkit.config.dataset import DatasetConfig
from toolkit.config.drawing.prompts_file import read_prompts
from toolkit.config.model import ModelConfig
from toolkit.config.paths import ExistingFile, UserPath
from toolkit.config.process import Findings, ProcessConfig
from toolkit.config.reading.training import add_card_defaults
from toolkit.config.sample import Prompts, SampleConfig, SampleItem
from toolkit.config.sample_prompt import WITH_ADAPTER, SamplePrompt
from toolkit.config.seed import DrawSeed, Seed
from toolkit.config.train import TrainConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.dtypes import Dtype
from toolkit.section import Section, Shown

_OF_SAMPLES = (
    "neg",
    "width",
    "height",
    "seed",
    "guidance_scale",
    "sample_steps",
    "network_multiplier",
    "adapter_conditioning_scale",
)
SHARED = (*_OF_SAMPLES, "walk_seed")  # keys that `sample` has too


class LoraConfig(Section):
    """One entry of `loras`."""

    path: ExistingFile = Field(
        description="A LoRA, LoKr, DoRA, LoHa or OFT file, or another file that changes weights, from any program."
    )
    weight: float = Field(1.0, description="Its strength.")


def _as_loras(value: Any) -> Any:
    entries = value if isinstance(value, list | tuple) else [value]
    return [{"path": entry} if isinstance(entry, str) else entry for entry in entries]


class GenerateConfig(Section):
    """`generate`: what to draw."""

    prompts: Prompts = Field(
        min_length=1,
        description="Prompts, each optionally with its own settings or flags such as `--w 512 --seed 3`, or the path "
        "of a file of them: text with one prompt per line, or a list as YAML or JSON.",
    )
    neg: Annotated[str, Shown(label="Negative prompt", needs="true_cfg")] = Field("", description="Negative prompt.")
    width: Annotated[int, Shown(unit="px")] = Field(1024, ge=16, le=8192, description="Width in pixels.")
    height: Annotated[int, Shown(unit="px")] = Field(1024, ge=16, le=8192, description="Height in pixels.")
    size_list: tuple[tuple[int, int], ...] = Field(
        (), description="Sizes as `[width, height]`; each picture gets a random one of them instead."
    )
    seed: DrawSeed = Field(42, description="Seed of the initial noise; -1: a random one for each picture.")
    seeds: tuple[Seed, ...] = Field(
        (), description="Draw each prompt once with each of these seeds, instead of its own."
    )
    walk_seed: bool = Field(False, description="Add the index of the prompt to the seed.")
    guidance_scale: float = Field(4.0, ge=0, description="Guidance scale.")
    sample_steps: int = Field(25, ge=1, description="Number of denoising steps.")
    network_multiplier: float = Field(1.0, description="Factor of the strength of all LoRAs.")
    adapter_conditioning_scale: Annotated[float, WITH_ADAPTER, Shown(label="Adapter strength")] = Field(
        1.0, description="Strength of the adapters."
    )
    batch_size: Annotated[int, Field(ge=1)] | Annotated[Literal["auto"], Spellings({})] = Field(
        "auto",
        description="Maximum number of pictures of the same size, steps, guidance and strength that are drawn in one "
        "batch. auto: as many as are certain to fit on the GPU, at most 4; on a CPU one. Up to rounding, a picture is "
        "the same in any batch.",
    )
    ext: Annotated[
        Literal["jpg", "png", "webp"],
        Spellings({"jpeg": "jpg", ".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".webp": "webp"}),
    ] = Field("png", description="Image file format.")
    num_repeats: int = Field(
        1, ge=1, description="Number of pictures of each prompt; each has a seed that is 1 larger than the last."
    )
    shuffle: bool = Field(False, description="Draw the prompts in random order.")
    random_prompts: bool = Field(
        False, description="Draw `max_images` prompts, each made of random entries of the list, joined by commas."
    )
    max_random_per_prompt: int = Field(
        1, ge=1, description="Maximum number of entries that are joined, with `random_prompts`."
    )
    max_images: int = Field(10_000, ge=1, description="Number of pictures, with `random_prompts`.")
    prompt_file: bool = Field(False, description="Also write the prompt of each picture to a text file next to it.")

    def items(self, trigger_word: str | None = None) -> tuple[SampleItem, ...]:
        """The pictures to draw, in order. Whatever is random in the list follows from `seed`.

        Args:
            trigger_word: replaces `[trigger]` in prompts; None leaves them as they are.
        """
        chance = random.Random(max(0, self.seed))
        shared = {key: getattr(self, key) for key in SHARED}
        prompts = self._joined(chance) if self.random_prompts else list(self.prompts)
        if self.shuffle:
            chance.shuffle(prompts)
        items = SampleConfig(samples=tuple(prompts), **shared).items(trigger_word)
        if self.seeds:
            items = tuple(replace(item, seed=seed) for item in items for seed in dict.fromkeys(self.seeds))
        repeated = [
            item if item.seed < 0 else replace(item, seed=item.seed + number)
            for number in range(self.num_repeats)
            for item in items
        ]
        if not self.size_list:
            return tuple(repeated)
        sizes = [chance.choice(self.size_list) for _ in repeated]
        return tuple(replace(item, width=w, height=h) for item, (w, h) in zip(repeated, sizes, strict=True))

    def _joined(self, chance: random.Random) -> list[SamplePrompt]:
        return [
            SamplePrompt(
                prompt=", ".join(
                    chance.choice(self.prompts).prompt for _ in range(chance.randint(1, self.max_random_per_prompt))
                )
            )
            for _ in range(self.max_images)
        ]


class GenerateProcessConfig(ProcessConfig):
    """One entry of `config.process`: draws pictures."""

    aliases: ClassVar[Mapping[str, str]] = {"output_folder": "folder"}

    folder: UserPath | None = Field(
        None, description="Folder for the pictures. Unset: a folder with the name of the job in `training_folder`."
    )
    model: ModelConfig = Field(description="The model to draw with.")
    loras: Annotated[
        tuple[LoraConfig, ...],
        BeforeValidator(_as_loras, json_schema_input_type=str | LoraConfig | list[str | LoraConfig]),
    ] = Field((), description="LoRAs to draw with, each a path or a path and a weight.")
    adapter: Adapters = Field(
        (),
        description="Adapters to draw with: the `adapter` section of the job that trained them, with the trained file "
        "as `name_or_path`. Each prompt gives `ctrl_img`, as in the samples of that job.",
    )
    sheet: Annotated[Literal["none", "checkpoints", "strengths", "steps", "grid"], Spellings({})] = Field(
        "none",
        description="Draw each prompt several times and arrange the pictures on one sheet: with each of "
        "`checkpoints`, at each of `strengths`, in each number of `steps`, or as a `grid`, with each of `checkpoints` "
        "at each of `strengths`.",
    )
    checkpoints: tuple[ExistingFile, ...] = Field(
        (),
        description="LoRA files, for `sheet: checkpoints` and `grid`; for `checkpoints`, adapter files of the job too.",
    )
    strengths: tuple[float, ...] = Field(
        (0.0, 0.5, 0.75, 1.0, 1.25, 1.5),
        min_length=1,
        description="Strengths of all LoRAs and adapters, for `sheet: strengths`; for `sheet: grid`, strengths of "
        "each of `checkpoints`, where 0 adds a single column without them.",
    )
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (4, 8, 16, 25, 50), min_length=1, description="Numbers of denoising steps, for `sheet: steps`."
    )
    trigger_word: str | None = Field(None, description="Word that replaces `[trigger]` in prompts.")
    generate: GenerateConfig = Field(description="What to draw.")
    dtype: Dtype = Field("bf16", description="Precision of the computation.")

    @property
    def card(self) -> ModelCard | None:
        """The card of the model; None if there is no such model."""
        return find_cards().get(self.model.arch)

    @classmethod
    def prepare(cls, entry: dict[str, Any], cards: Mapping[str, ModelCard]) -> Findings:
        """See ProcessConfig.prepare. Reads a file of prompts, and fills in the sampling defaults of the card."""
        problems: list[tuple[tuple[int | str, ...], str]] = []
        model, generate = entry.get("model"), entry.get("generate")
        if isinstance(model, dict):
            problems += wrong_arch(model, cards)
        if isinstance(generate, dict):
            given = generate.get("prompts")
            if isinstance(given, str):
                try:
                    generate["prompts"] = read_prompts(Path(given))
                except ValueError as error:
                    problems.append((("generate", "prompts"), str(error)))
                    generate["prompts"] = [""]
            scratch: dict[str, Any] = {"model": model}
            add_card_defaults(scratch, cards)
            for key, value in scratch.get("sample", {}).items():
                generate.setdefault(key, value)
            if isinstance(model, dict):
                for key, value in scratch["model"].items():
                    model.setdefault(key, value)
        return Findings(problems, [])

    def output_folder(self, job_name: str) -> Path:
        """See ProcessConfig.output_folder."""
        return super().output_folder(job_name) if self.folder is None else self.folder

    def as_training(self, items: Sequence[SampleItem], job_name: str) -> TrainingProcessConfig:
        """The same settings as a training job that only draws samples, for everything that both do alike.

        Args:
            items: the pictures to draw.
            job_name: name of the job.
        """
        folder = self.output_folder(job_name)
        prompts = tuple(_as_prompt(item) for item in items)
        return TrainingProcessConfig.model_construct(
            type=self.type,
            name=folder.name,
            training_folder=folder.parent,
            device=self.device,
            model=self.model,
            adapter=self.adapter,
            datasets=tuple[DatasetConfig, ...](),
            train=TrainConfig(dtype=self.dtype, steps=max(1, len(items)), gradient_checkpointing=False),
            sample=SampleConfig(samples=prompts, format=self.generate.ext, batch_size=self.generate.batch_size),
        )

    @model_validator(mode="after")
    def _sheet_can_be_compared(self) -> GenerateProcessConfig:
        if self.sheet == "checkpoints" and not self.checkpoints:
            raise ValueError("`sheet: checkpoints` needs `checkpoints`, the files to compare")
        if self.sheet == "grid" and not self.checkpoints and 0 not in self.strengths:
            raise ValueError("`sheet: grid` needs `checkpoints`, or the strength 0 to draw with the model alone")
        if self.sheet == "strengths" and not self.loras and not self.adapter:
            raise ValueError("`sheet: strengths` needs `loras` or an `adapter`, whose strength it compares")
        if self.sheet != "none" and any(item.seed < 0 for item in self.generate.items()):
            raise ValueError(f"`sheet: {self.sheet}` compares pictures of one seed, and a prompt has the seed -1")
        return self

    @model_validator(mode="after")
    def _adapters_are_trained_and_go_together(self) -> GenerateProcessConfig:
        if (mistake := clash_of(self.adapter)) is not None:
            raise ValueError(mistake)
        for index, adapter in enumerate(self.adapter):
            if adapter.name_or_path is None:
                raise ValueError(
                    f"`adapter[{index}].name_or_path` is missing: the trained file of the {adapter.type} adapter"
                )
        return self

    @model_validator(mode="after")
    def _must_not_assist(self) -> GenerateProcessConfig:
        if self.model.assistant_lora_path is not None:
            raise ValueError("`model.assistant_lora_path` is for training: name the LoRAs to draw with in `loras`")
        return self


def _as_prompt(item: SampleItem) -> SamplePrompt:
    names = ["ctrl_img", *(f"ctrl_img_{number}" for number in range(2, len(item.references) + 1))]
    settings: dict[str, Any] = {key: getattr(item, key) for key in _OF_SAMPLES}
    settings |= dict(zip(names, item.references, strict=False))
    return SamplePrompt.model_construct(prompt=item.prompt, **settings)
