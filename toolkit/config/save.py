"""`save`: what is written, and how often."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from toolkit.config.section import Section
from toolkit.config.spellings import Dtype, Spellings


class SaveConfig(Section):
    """`save`: checkpoints in the output folder."""

    save_every: int = Field(250, ge=0, description="Steps between checkpoints. 0: only at the end.")
    dtype: Dtype = Field("bf16", description="Precision of the saved weights.")
    max_step_saves_to_keep: int = Field(4, ge=0, description="Newest checkpoints that are kept. 0: all of them.")
    on_disk_full: Annotated[Literal["stop", "continue"], Spellings({})] = Field(
        "stop",
        description="When a checkpoint finds no room. continue: train on, and try again when the next one is due.",
    )
    term_grace_s: float = Field(
        25.0,
        gt=0,
        description="Seconds that a run has after SIGTERM to finish its step and save; then it stops as it is.",
    )
    save_format: Annotated[Literal["safetensors", "diffusers"], Spellings({})] = Field(
        "safetensors",
        description="Layout of a full fine-tune: one file or a diffusers folder. A LoRA is always one file.",
    )
    lora_format: Annotated[Literal["bfl", "diffusers", "kohya"], Spellings({})] = Field(
        "bfl",
        description="How a LoRA file names its layers. bfl: as the released model; read by ComfyUI and diffusers.",
    )
