"""One sample prompt, which may end in flags: `a dog --w 512 --h 768 --n blurry --seed 3`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from toolkit.config.dataset import MAX_CONTROLS
from toolkit.config.paths import ExistingFile
from toolkit.config.reading.suggest import did_you_mean
from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.config.seed import DrawSeed
from toolkit.section import Section, Shown

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
    "network_multiplier": "network_multiplier",
    "adapter_conditioning_scale": "adapter_conditioning_scale",
    "ctrl_img": "ctrl_img",
    "ctrl_img_1": "ctrl_img",
    **{f"ctrl_img_{number}": f"ctrl_img_{number}" for number in range(2, MAX_CONTROLS + 1)},
}
UNSUPPORTED_FLAGS = frozenset(["ctrl_idx", "p2", "gr", "a", "extra", "num_frames", "fps"])
FLAG = re.compile(r"(?:^|\s)--([A-Za-z]\w*)(?=\s|$)")


def _is_avoided(context: KeyContext) -> bool:
    own, shared = context.section.guidance_scale, context.parent.guidance_scale
    return context.can("true_cfg") and (shared if own is None else own) > 1


def _is_guided(context: KeyContext) -> bool:
    # Guidance 1 means none. Models with `fixed_guidance` refuse other values elsewhere.
    return context.value <= 1 or any(map(context.can, ("true_cfg", "guidance_embed", "fixed_guidance")))


GUIDED = OnlyWith("by models with true guidance or a guidance embedding", _is_guided)


WITH_ADAPTER = OnlyWith("with an `adapter`", lambda context: bool(context.process.adapter))


class SamplePrompt(Section):
    """One entry of `sample.samples`. Keys it leaves out are inherited from `sample`."""

    aliases: ClassVar[Mapping[str, str]] = {"ctrl_img_1": "ctrl_img"}

    prompt: str = Field(description="The prompt. `[trigger]` stands for the trigger word.")
    neg: Annotated[
        str | None,
        OnlyWith("by models with true guidance, and with a `guidance_scale` above 1", _is_avoided),
        Shown(label="Negative prompt", needs="true_cfg"),
    ] = Field(None, description="Negative prompt.")
    width: Annotated[int | None, Shown(unit="px")] = Field(None, ge=16, le=8192, description="Width in pixels.")
    height: Annotated[int | None, Shown(unit="px")] = Field(None, ge=16, le=8192, description="Height in pixels.")
    seed: Annotated[DrawSeed | None, Shown(widget="seed")] = Field(
        None, description="Seed of this entry and of the following entries without one; -1: a random one."
    )
    guidance_scale: Annotated[float | None, GUIDED, Shown(label="Guidance")] = Field(
        None, ge=0, description="Guidance scale."
    )
    sample_steps: Annotated[int | None, Shown(label="Denoising steps", unit="steps")] = Field(
        None, ge=1, description="Number of denoising steps."
    )
    network_multiplier: Annotated[float | None, Shown(label="Network strength")] = Field(
        None, description="Strength of the network."
    )
    adapter_conditioning_scale: Annotated[float | None, WITH_ADAPTER, Shown(label="Adapter strength")] = Field(
        None, description="Strength of the adapters."
    )
    ctrl_img: Annotated[ExistingFile | None, Shown(needs="references", widget="file")] = Field(
        None, description="Reference image; if an adapter reads images, the image that it reads."
    )
    ctrl_img_2: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 2."
    )
    ctrl_img_3: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 3."
    )
    ctrl_img_4: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 4."
    )
    ctrl_img_5: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 5."
    )
    ctrl_img_6: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 6."
    )
    ctrl_img_7: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 7."
    )
    ctrl_img_8: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 8."
    )
    ctrl_img_9: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 9."
    )
    ctrl_img_10: Annotated[ExistingFile | None, Shown(level="expert", needs="references", widget="file")] = Field(
        None, description="Reference image 10."
    )

    @property
    def references(self) -> tuple[Path, ...]:
        """The reference images, in order."""
        numbered = [getattr(self, f"ctrl_img_{number}") for number in range(2, MAX_CONTROLS + 1)]
        return tuple(path for path in (self.ctrl_img, *numbered) if path is not None)

    @model_validator(mode="before")
    @classmethod
    def _read_flags(cls, data: Any) -> Any:
        data = {"prompt": data} if isinstance(data, str) else data
        if isinstance(data, dict) and isinstance(data.get("prompt"), str):
            return {**data, **read_flags(data["prompt"])}
        return data


def read_flags(text: str) -> dict[str, str]:
    """Split a prompt with flags into the keys of a `SamplePrompt`.

    Raises:
        ValueError: a flag is unknown, is not supported or has no value.
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
