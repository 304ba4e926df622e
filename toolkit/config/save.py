"""`save`: which checkpoints are written, and how often."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from toolkit.choice import Spellings
from toolkit.config.remarks import OnlyWith
from toolkit.dtypes import Dtype
from toolkit.section import Section, Shown

LORA_ONLY = ("bfl", "kohya")  # values of `save_format` that do not apply to a full fine-tune


_WITH_UPLOAD = OnlyWith("with `push_to_hub`", lambda context: context.section.push_to_hub)


class SaveConfig(Section):
    """`save`: checkpoints in the output folder."""

    save_every: Annotated[int, Shown(level="basic", unit="steps")] = Field(
        250, ge=0, description="Steps between checkpoints. 0: only at the end."
    )
    save_every_epochs: Annotated[int, Shown(level="expert", unit="epochs")] = Field(
        0, ge=0, description="Also write a checkpoint every so many passes over the datasets. 0: never."
    )
    save_every_minutes: Annotated[float, Shown(level="expert", unit="min")] = Field(
        0, ge=0, description="Also write a checkpoint every so many minutes of training. 0: never."
    )
    dtype: Dtype = Field("bf16", description="Precision of the saved weights.")
    max_states_to_keep: Annotated[int, Shown(label="Checkpoints that can be resumed")] = Field(
        2,
        ge=0,
        description=(
            "How many of the newest checkpoints keep the state needed to resume (raw weights, optimizer, average); the "
            "others keep only their weight files. 0: all of them."
        ),
    )
    max_step_saves_to_keep: Annotated[
        int,
        OnlyWith("with checkpoints before the end", lambda context: context.section.is_between),
        Shown(label="Checkpoints to keep"),
    ] = Field(4, ge=0, description="How many of the newest checkpoints to keep. 0: all of them.")
    save_best: Annotated[
        bool, OnlyWith("with `train.validation_config`", lambda context: context.process.validation is not None)
    ] = Field(
        False,
        description="Also keep the weights of the best validation round, as `<name>_best`. Retention never deletes "
        "them.",
    )
    on_disk_full: Annotated[
        Literal["stop", "continue"], Spellings({}), Shown(label="When the disk is full", level="expert")
    ] = Field(
        "stop",
        description="What to do when the disk is too full for a checkpoint. continue: keep training and try again with "
        "the next one.",
    )
    term_grace_s: Annotated[float, Shown(label="Time to save after SIGTERM", level="expert", unit="s")] = Field(
        25.0,
        gt=0,
        description="Seconds that a run has after SIGTERM to finish its step and save; then it stops without saving.",
    )
    save_format: Annotated[
        Literal["safetensors", "diffusers", "bfl", "kohya"], Spellings({}), Shown(label="File layout")
    ] = Field(
        "safetensors",
        description=(
            "Layout of a full fine-tune: `safetensors`, one file with the released names, or `diffusers`, a folder. In "
            "a LoRA job, `bfl` and `kohya` mean the same as in `lora_format`; the other two have no effect, as in "
            "ai-toolkit."
        ),
    )
    lora_format: Annotated[
        Literal["bfl", "diffusers", "kohya"],
        Spellings({}),
        OnlyWith("with a `network`", lambda context: context.process.network is not None),
        Shown(label="LoRA layer names"),
    ] = Field(
        "bfl",
        description="How a LoRA file names its layers. bfl: like the released model; ComfyUI and diffusers read it.",
    )

    push_to_hub: Annotated[bool, Shown(label="Upload to the Hugging Face hub")] = Field(
        False,
        description="Upload weights, a model card and the last samples when the run is done. A failed upload is "
        "reported; start the finished job again to retry.",
    )
    hf_repo_id: Annotated[str | None, _WITH_UPLOAD, Shown(label="Hub repository")] = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="Repository to upload to, `owner/name`; created if it does not exist.",
    )
    hf_private: Annotated[bool, _WITH_UPLOAD, Shown(label="Private repository")] = Field(
        False, description="If the repository is created, make it private."
    )

    @property
    def is_between(self) -> bool:
        """Whether checkpoints are written before the last step."""
        return bool(self.save_every or self.save_every_epochs or self.save_every_minutes)

    @property
    def times(self) -> tuple[str, ...]:
        """When checkpoints are written before the last step, in words."""
        epochs, minutes = self.save_every_epochs, self.save_every_minutes
        return (
            *([f"{self.save_every}"] if self.save_every else []),
            *([f"{epochs} epochs"] if epochs else []),
            *([f"{minutes:g} min"] if minutes else []),
        )

    @property
    def lora_file_format(self) -> str:
        """How a LoRA file names its layers, from whichever of the two keys the job gives."""
        return self.save_format if self.save_format in LORA_ONLY else self.lora_format

    @model_validator(mode="after")
    def _must_have_a_repository(self) -> Self:
        if self.push_to_hub and self.hf_repo_id is None:
            raise ValueError("`push_to_hub` needs `hf_repo_id`, such as `your-name/my-lora`")
        return self

    @model_validator(mode="after")
    def _must_not_say_it_twice(self) -> Self:
        is_twice = self.save_format in LORA_ONLY and "lora_format" in self.model_fields_set
        if is_twice and self.save_format != self.lora_format:
            raise ValueError("`save_format` and `lora_format` name different LoRA file formats: keep one of them")
        return self
