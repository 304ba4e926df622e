"""How often the images of a dataset are used, and how they are cut and coloured each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from toolkit.config.datasets.captions import DatasetCaptions
from toolkit.config.remarks import KeyContext, Notice
from toolkit.section import Section, Shown

Change = Annotated[float, Field(ge=0, lt=1)]


class ColorJitterConfig(Section):
    """`color_jitter`: how much the colours of an image change at each use, at most. 0: not at all."""

    brightness: Change = Field(0.0, description="Brightness is multiplied by up to 1 + this, or 1 - this.")
    contrast: Change = Field(0.0, description="Contrast is multiplied by up to 1 + this, or 1 - this.")
    saturation: Change = Field(0.0, description="Saturation is multiplied by up to 1 + this, or 1 - this.")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="Hue moves by up to this share of the colour circle, either way."
    )


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError("the network would be off, so nothing would be trained. Remove the dataset instead")
    return value


def _never(context: KeyContext) -> str | None:
    return "no step trains on these images" if context.value == 0 else None


def _only_here(context: KeyContext) -> str | None:
    return None if len(context.process.datasets) > 1 else "has no effect: there is no other dataset"


def _changes_nothing(context: KeyContext) -> str | None:
    return None if any(dict(context.value).values()) else "has no effect: each of its changes is 0"


class DatasetUse(DatasetCaptions):
    """The keys of `datasets` about how often, how strongly and in which cut and colours images are used."""

    share_of_steps: Annotated[float | None, Notice(_only_here), Notice(_never), Shown(label="Share of the steps")] = (
        Field(
            None,
            ge=0,
            le=1,
            description="Share of all steps that train on this dataset, however many images it has; if every dataset "
            "has one, the shares are scaled to add up to 1. Unset: the images of the datasets without a share are "
            "mixed.",
        )
    )
    batch_size: Annotated[int | None, Shown(unit="images", level="expert")] = Field(
        None, ge=1, description="Images per batch of this dataset. Unset: `train.batch_size`."
    )
    network_weight: Annotated[
        float, AfterValidator(_not_zero), Shown(label="Strength of the network", level="expert")
    ] = Field(
        1.0,
        ge=-10,
        le=10,
        description="Strength of the network while it is trained on this dataset. With 2, the network learns to show "
        "these images at strength 2, and so half their effect at strength 1.",
    )
    scale: Annotated[float, Shown(level="expert")] = Field(
        1.0,
        gt=0,
        le=16,
        description="Factor of the size of the images: below 1 they are trained smaller, above 1 small images are "
        "enlarged. Never above `resolution`.",
    )
    square_crop: Annotated[bool, Shown(label="Square crop")] = Field(
        False, description="Crop each image to a square instead of to a shape close to its own."
    )
    random_scale: Annotated[bool, Shown(level="expert")] = Field(
        False,
        description="At each use, crop from the image at a random scale between the smallest that fills the crop and "
        "the file's own size. Keeps the VAE loaded, as `random_crop` does.",
    )
    color_jitter: Annotated[ColorJitterConfig | None, Notice(_changes_nothing), Shown(level="expert")] = Field(
        None, description="Change the colours a little at each use. Keeps the VAE loaded, as `random_crop` does."
    )

    @property
    def is_drawn(self) -> bool:
        """Whether the pixels of its images are other ones at each use, so that they cannot be encoded once."""
        drawn: Any = self
        return bool(drawn.random_crop or self.random_scale or self.color_jitter)


def share_mistake(datasets: Sequence[DatasetUse]) -> str | None:
    """What is wrong with the datasets' shares of the steps; None if nothing is."""
    given = [dataset.share_of_steps for dataset in datasets if dataset.share_of_steps is not None]
    total = sum(given)
    if not given:
        return None
    if total == 0 and len(given) == len(datasets):
        return "`share_of_steps` is 0 for every dataset, so that no step has images: give one of them a share"
    if total >= 1 and len(given) < len(datasets):
        return (
            f"`share_of_steps` adds up to {total:g}, so that no step is left for the datasets without one: lower it, "
            "or give each of them a share"
        )
    return None
