"""What the parts of a run need: texts and pictures to encode, components that stay loaded, passes through the model.

Dataset, objective and sampler each return a `Needs`; the check makes their union, once. The printed plan, the memory
plan and the encode stages all read that one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from toolkit.data.examples import Example, Layout, LossMask, Reference, ViewImage
from toolkit.encode.vision import VisionEncoder
from toolkit.objectives.choices import Passes

Component = Literal["text_encoder", "vae", "transformer"]
Loaded = Component | Literal["vision_encoder"]
Kind = Literal["texts", "pictures", "views"]


@dataclass(frozen=True)
class Picture:
    """A picture that the VAE encodes once.

    Attributes:
        source: an example, a reference image of an example, or its mask, which takes no VAE.
        folder: cache folder for the picture's latents; None to keep them in memory.
    """

    source: Example | Reference | LossMask
    folder: Path | None


@dataclass(frozen=True)
class View:
    """An image that a vision encoder encodes once, for an adapter.

    Attributes:
        source: the image.
        encoder: the encoder, and which layer of it is read.
        folder: cache folder for the features; None to keep them in memory.
    """

    source: ViewImage
    encoder: VisionEncoder
    folder: Path | None


@dataclass(frozen=True)
class Resident:
    """A component that stays loaded while the transformer trains.

    Attributes:
        component: name of the component.
        reason: what stays loaded and why, as a sentence for the user.
    """

    component: Component
    reason: str


@dataclass(frozen=True)
class Needs:
    """What one part of a run needs; `|` combines the needs of several parts.

    Attributes:
        texts: distinct text to encode -> cache folder for its embeddings; None to keep them in memory.
        captions: texts that training reads; all other texts are read when samples are drawn.
        pictures: pictures that the VAE encodes before training.
        views: pictures that vision encoders encode before training.
        resident: components that stay loaded while the transformer trains.
        without: components of the model that the run does not have.
        passes: passes through the transformer for each batch.
        trained: size of each example, followed by the sizes of its references.
        sampled: size of each sample, followed by the sizes of its references.
        validated: size of each image that is scored, followed by the sizes of its references.
        validated_together: how often such an image is in one pass, each time under other noise.
        tracked_px: pixels whose latents validation keeps in RAM, in fp32.
        scored_with: the image encoder that scores the samples of each round; None if they are not scored.
    """

    texts: Mapping[str, Path | None] = field(default_factory=dict)
    captions: frozenset[str] = frozenset()
    pictures: tuple[Picture, ...] = ()
    views: tuple[View, ...] = ()
    resident: tuple[Resident, ...] = ()
    without: frozenset[str] = frozenset()
    passes: Passes = field(default_factory=Passes)
    trained: tuple[Layout, ...] = ()
    sampled: tuple[Layout, ...] = ()
    validated: tuple[Layout, ...] = ()
    validated_together: int = 1
    tracked_px: int = 0
    scored_with: VisionEncoder | None = None

    def __or__(self, other: Needs) -> Needs:
        """Combine both. A text that either keeps on disk is kept on disk."""
        texts = {**self.texts}
        for text, folder in other.texts.items():
            texts[text] = texts.get(text) or folder
        return Needs(
            texts=texts,
            captions=self.captions | other.captions,
            pictures=tuple(dict.fromkeys((*self.pictures, *other.pictures))),
            views=tuple(dict.fromkeys((*self.views, *other.views))),
            resident=tuple(dict.fromkeys((*self.resident, *other.resident))),
            without=self.without | other.without,
            passes=self.passes + other.passes,
            trained=tuple(dict.fromkeys((*self.trained, *other.trained))),
            sampled=tuple(dict.fromkeys((*self.sampled, *other.sampled))),
            validated=tuple(dict.fromkeys((*self.validated, *other.validated))),
            validated_together=max(self.validated_together, other.validated_together),
            tracked_px=self.tracked_px + other.tracked_px,
            scored_with=self.scored_with or other.scored_with,
        )

    def keeps(self, component: str) -> bool:
        """Whether a component stays loaded while the transformer trains."""
        return any(resident.component == component for resident in self.resident)

    def encoded(self, kind: Kind) -> Sequence[tuple[Any, Path | None]]:
        """What is to be encoded of a kind, each with the folder that keeps it; None for memory."""
        if kind == "texts":
            return tuple(self.texts.items())
        if kind == "pictures":
            return tuple((picture.source, picture.folder) for picture in self.pictures)
        return tuple((view, view.folder) for view in self.views)

    @property
    def caption_folders(self) -> dict[str, Path | None]:
        """Caption -> cache folder for its embeddings; None to keep them in memory."""
        return {text: folder for text, folder in self.texts.items() if text in self.captions}

    @property
    def distinct_views(self) -> dict[tuple[VisionEncoder, ViewImage], Path | None]:
        """Encoder and image -> folder that keeps the features; equal images in several files count once."""
        return {(view.encoder, replace(view.source, path=Path())): view.folder for view in self.views}

    @property
    def has_references(self) -> bool:
        """Whether any example has a reference image."""
        return any(len(layout) > 1 for layout in self.trained)
