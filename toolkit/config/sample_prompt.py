"""One sample prompt, with the settings that can stand behind it: `a dog --w 512 --h 768 --n blurry --seed 3`."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, model_validator

from toolkit.config.section import Section
from toolkit.config.suggest import did_you_mean

FLAGS = {
    "w": "width",
    "h": "height",
    "n": "neg",
    "neg": "neg",
    "d": "seed",
    "seed": "seed",
    "l": "guidance_scale",
    "cfg": "guidance_scale",
    "s": "sample_steps",
    "steps": "sample_steps",
    "m": "network_multiplier",
}
UNSUPPORTED_FLAGS = frozenset(
    ["ctrl_img", "ctrl_img_1", "ctrl_img_2", "ctrl_img_3", "ctrl_idx", "p2", "gr", "a", "extra", "num_frames", "fps"]
)
FLAG = re.compile(r"(?:^|\s)--([A-Za-z]\w*)(?=\s|$)")


class SamplePrompt(Section):
    """One entry of `sample.samples`. What it leaves out is as `sample` says."""

    prompt: str = Field(description="What to draw. `[trigger]` stands for the trigger word.")
    neg: str | None = Field(None, description="What to avoid; for models with true guidance.")
    width: int | None = Field(None, ge=16, le=8192, description="Width in pixels.")
    height: int | None = Field(None, ge=16, le=8192, description="Height in pixels.")
    seed: int | None = Field(None, ge=0, description="Seed, of the entries after it too.")
    guidance_scale: float | None = Field(None, ge=0, description="Guidance.")
    sample_steps: int | None = Field(None, ge=1, description="Denoising steps.")
    network_multiplier: float | None = Field(None, description="Strength of the network.")

    @model_validator(mode="before")
    @classmethod
    def _read_flags(cls, data: Any) -> Any:
        data = {"prompt": data} if isinstance(data, str) else data
        if isinstance(data, dict) and isinstance(data.get("prompt"), str):
            return {**data, **read_flags(data["prompt"])}
        return data


def read_flags(text: str) -> dict[str, str]:
    """The keys of a sample that a prompt with flags stands for; flags win over keys.

    Raises:
        ValueError: a flag is unknown, not supported or has no value.
    """
    prompt, *parts = FLAG.split(text)
    found = {"prompt": prompt.strip()}
    for flag, value in zip(parts[::2], parts[1::2], strict=True):
        if flag in UNSUPPORTED_FLAGS:
            raise ValueError(f"--{flag} in a prompt is not supported yet")
        if flag not in FLAGS:
            raise ValueError(f"--{flag} in a prompt is unknown.{did_you_mean(flag, FLAGS)} Known: {', '.join(FLAGS)}")
        if not value.strip() and FLAGS[flag] != "neg":
            raise ValueError(f"--{flag} in a prompt needs a value")
        found[FLAGS[flag]] = value.strip()
    return found
