"""The settings of `job: extract` and `job: mod`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from toolkit.choice import Spellings
from toolkit.config.paths import ExistingFile, ExistingPath, UserPath
from toolkit.config.process import ProcessConfig


class ExtractConfig(ProcessConfig):
    """One entry of `config.process` in `job: extract`: writes the difference of two models as a LoRA."""

    base_model: ExistingPath = Field(
        description="The model that the fine-tuned one was made from: a file or a diffusers folder."
    )
    extract_model: ExistingPath = Field(description="The fine-tuned model, in any layout.")
    filename: str | None = Field(None, min_length=1, description="Name of the file in the output folder.")
    output_path: UserPath | None = Field(None, description="Where to write the file instead.")
    mode: Annotated[Literal["fixed", "threshold", "ratio", "quantile", "energy"], Spellings({})] = Field(
        "fixed",
        description="What `linear` is. fixed: the rank. The others choose each layer's rank by its singular values. "
        "threshold: those above `linear` are kept. ratio: those above this share of the largest. quantile: the "
        "largest, up to this share of their sum. energy: the fewest with this share of the squared norm.",
    )
    linear: float = Field(32, gt=0, description="See `mode`.")

    def file(self, job_name: str) -> Path:
        """The file to write."""
        name = self.filename or f"{self.name or job_name}.safetensors"
        return self.output_path or self.output_folder(job_name) / name

    @model_validator(mode="after")
    def _linear_fits_the_mode(self) -> ExtractConfig:
        if self.mode == "fixed" and self.linear != int(self.linear):
            raise ValueError(f"`linear: {self.linear:g}` is a rank with `mode: fixed`: write a whole number")
        if self.mode in ("ratio", "quantile", "energy") and self.linear > 1:
            raise ValueError(f"`linear: {self.linear:g}` is a share with `mode: {self.mode}`: write a number up to 1")
        return self


class RescaleConfig(ProcessConfig):
    """One entry of `config.process` in `job: mod`: writes a LoRA that has another strength at weight 1."""

    input_path: ExistingFile = Field(description="The LoRA file.")
    output_path: UserPath = Field(description="The file to write; may be the input file.")
    current_weight: float = Field(1.0, description="The weight at which the LoRA is used now.")
    target_weight: float = Field(1.0, description="The weight at which the new file has the same effect.")
    scale_target: Annotated[Literal["up_down"], Spellings({})] = Field("up_down", description="What is scaled.")

    @model_validator(mode="after")
    def _must_have_a_target(self) -> RescaleConfig:
        if self.target_weight == 0:
            raise ValueError("`target_weight: 0` would turn any LoRA off: write another number")
        return self
