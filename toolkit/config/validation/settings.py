"""The settings of validation: which images and prompts a run is measured by, at which noise levels, and how often."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from toolkit.choice import Spellings
from toolkit.config.paths import ExistingFile
from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.section import Harmless, Section, Setting, Shown

Question = Literal["held_out", "overfit", "preservation"]
_NUM_LEVELS = 8
SIGMAS = tuple((2 * index + 1) / (2 * _NUM_LEVELS) for index in reversed(range(_NUM_LEVELS)))
"""The noise levels that are scored unless a job names others: the middles of equal parts of the path."""
NUM_BANDS = 4
BANDS = tuple(f"{band / NUM_BANDS:g}-{(band + 1) / NUM_BANDS:g}" for band in range(NUM_BANDS))
"""What the bands of noise are called: 0-0.25, 0.25-0.5, ..."""


def band_of(sigma: float) -> int:
    """The band of a noise level above 0 and up to 1: 0 for the quarter with the least noise, 3 for that with most."""
    return min(int(sigma * NUM_BANDS), NUM_BANDS - 1)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


class ValidationItem(Section):
    """One entry of `train.validation_config.validation_items`: an image that is not trained on."""

    image_path: ExistingFile = Field(description="The image.")
    prompt: str = Field("", description="Its caption; `[trigger]` stands for the trigger word.")


Sigma = Annotated[float, Field(gt=0, le=1)]
Sigmas = Annotated[tuple[Sigma, ...], BeforeValidator(_as_list, json_schema_input_type=Sigma | list[Sigma])]
Prompts = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


def _asks(*questions: Question) -> OnlyWith:
    def is_asked(context: KeyContext) -> bool:
        return any(map(context.section.asks, questions))

    return OnlyWith(f"with {' or '.join(f'`{one}`' for one in questions)} among the `questions`", is_asked)


class ValidationConfig(Section):
    """`train.validation_config`: measures the training on a fixed grid of images, prompts and noise levels."""

    validation_items: Annotated[
        tuple[ValidationItem, ...], _asks("held_out", "overfit"), Shown(label="Validation images")
    ] = Field((), description="Held-out images, each with a prompt.")
    resolution: Annotated[
        int,
        OnlyWith("with `validation_items`", lambda context: bool(context.section.validation_items)),
        Shown(unit="px"),
    ] = Field(512, ge=16, le=8192, description="Size of `validation_items`, like that of a dataset.")
    validate_every_n_steps: Annotated[int, Shown(label="Validate every", unit="steps")] = Field(
        100, ge=1, description="Steps between two rounds. The first is before step 1, the last at the end."
    )
    validation_sigmas: Annotated[Sigmas, Shown(label="Noise levels", level="expert")] = Field(
        SIGMAS,
        min_length=1,
        description="Noise levels that are scored: above 0 (the clean image), up to 1 (pure noise).",
    )
    validation_split: Annotated[
        float, Setting(changes_training=True), _asks("held_out", "overfit"), Shown(label="Images held out of training")
    ] = Field(
        0.0,
        ge=0,
        description="Images that are held out of the datasets and only scored: a share of them or, from 1 on, a "
        "number.",
    )
    max_images: Annotated[int, Shown(label="Images of each kind, at most", unit="images")] = Field(
        8,
        ge=1,
        description="Maximum number of held-out images, and of training images, that are scored. More take longer.",
    )
    questions: tuple[Annotated[Question, Spellings({})], ...] = Field(
        ("held_out", "overfit", "preservation"),
        min_length=1,
        description="What is measured. held_out: whether images that are not trained on get better. overfit: how much "
        "better the training images get than held-out images or, without any, mirrored copies. preservation: how far "
        "predictions for prompts without the trigger word move away from the base model's.",
    )
    preservation_prompts: Annotated[Prompts, _asks("preservation"), Shown(widget="prompts")] = Field(
        (), description="Prompts that should stay as they are. Unset: the captions without the trigger word."
    )
    early_stop_patience: Annotated[int, Shown(level="expert", unit="rounds")] = Field(
        0, ge=0, description="Stop training after so many rounds without improvement. 0: never."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> ValidationConfig:
        if self.validation_split > 1 and self.validation_split != int(self.validation_split):
            raise ValueError(
                f"`validation_split: {self.validation_split:g}` is neither a share below 1 nor a whole number of images"
            )
        for key in ("validation_sigmas", "questions", "preservation_prompts"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"`{key}` has duplicate entries, which would be scored twice: list each once")
        if self.early_stop_patience and not self.scores_images:
            raise ValueError(
                "`early_stop_patience` needs a figure that can improve: add `held_out` or `overfit` to `questions`"
            )
        return self

    @property
    def scores_images(self) -> bool:
        """Whether any question is about images."""
        return self.asks("held_out") or self.asks("overfit")

    def asks(self, question: Question) -> bool:
        """Whether a question is to be answered."""
        return question in self.questions

    def insists_on(self, question: Question) -> bool:
        """Whether the job itself names a question, so that it must be possible to answer it."""
        return "questions" in self.model_fields_set and self.asks(question)


Validation = Annotated[Harmless[ValidationConfig | None], Shown(label="Validation")]
