"""What the parts of a run need: texts and pictures to encode, components that stay, passes through the model.

Dataset, objective and sampler each answer with a `Needs`; the check makes their union, once. The printed plan, the
memory plan and the stages that encode read that one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from toolkit.data.examples import Example, Layout, Reference
from toolkit.objectives.choices import Passes

Component = Literal["text_encoder", "vae", "transformer"]
Kind = Literal["texts", "pictures", "views"]


@dataclass(frozen=True)
class Picture:
    """A picture that the VAE encodes once.

    Attributes:
        source: the example, or a reference image of one.
        folder: the cache folder that keeps its latents; None for memory.
    """

    source: Example | Reference
    folder: Path | None


@dataclass(frozen=True)
class View:
    """A picture that a vision encoder sees once. No part of today's runs asks for one.

    Attributes:
        source: the example, or a reference image of one.
        encoder: name of the component that encodes it.
        folder: the cache folder that keeps the result; None for memory.
    """

    source: Example | Reference
    encoder: str
    folder: Path | None


@dataclass(frozen=True)
class Resident:
    """A component that stays loaded while the transformer trains.

    Attributes:
        component: its name.
        reason: for the user: what stays loaded, why, and what it costs.
    """

    component: Component
    reason: str


@dataclass(frozen=True)
class Needs:
    """What one part needs, or with `|` several parts together.

    Attributes:
        texts: each distinct text to encode, and the cache folder that keeps its embeddings; None for memory.
        captions: those of the texts that training reads; the others are read when samples are drawn.
        pictures: what the VAE encodes before training.
        views: what vision encoders encode before training.
        resident: components that stay loaded.
        passes: through the transformer, for each batch.
        trained: sizes of the examples, each with those of its references.
        sampled: the same of the samples.
    """

    texts: Mapping[str, Path | None] = field(default_factory=dict)
    captions: frozenset[str] = frozenset()
    pictures: tuple[Picture, ...] = ()
    views: tuple[View, ...] = ()
    resident: tuple[Resident, ...] = ()
    passes: Passes = field(default_factory=Passes)
    trained: tuple[Layout, ...] = ()
    sampled: tuple[Layout, ...] = ()

    def __or__(self, other: Needs) -> Needs:
        """Both together. A text that one of them keeps on disk is kept on disk."""
        texts = {**self.texts}
        for text, folder in other.texts.items():
            texts[text] = texts.get(text) or folder
        return Needs(
            texts=texts,
            captions=self.captions | other.captions,
            pictures=tuple(dict.fromkeys((*self.pictures, *other.pictures))),
            views=tuple(dict.fromkeys((*self.views, *other.views))),
            resident=tuple(dict.fromkeys((*self.resident, *other.resident))),
            passes=self.passes + other.passes,
            trained=tuple(dict.fromkeys((*self.trained, *other.trained))),
            sampled=tuple(dict.fromkeys((*self.sampled, *other.sampled))),
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
        """The captions among the texts, each with its cache folder."""
        return {text: folder for text, folder in self.texts.items() if text in self.captions}

    @property
    def has_references(self) -> bool:
        """Whether any picture is a reference image."""
        return any(isinstance(picture.source, Reference) for picture in self.pictures)
