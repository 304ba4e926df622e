"""The stages of a training run: the one list that is run, printed and predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.plan.needs import Component

Kind = Literal["texts", "pictures"]


@dataclass(frozen=True)
class Stage:
    """A part of the run with a component of its own, which is loaded in it and then freed, unless the needs keep it.

    Attributes:
        name: heading, and the name in the event log.
        component: of the model.
        label: what people call the component.
        doing: what a run says that it is stopped in, before the first step.
    """

    name: str
    component: Component
    label: str
    doing: str

    @property
    def stopped(self) -> str:
        """What is said of a run that is stopped here."""
        return f"Stopped while {self.doing}, before the first step."


@dataclass(frozen=True)
class EncodeStage(Stage):
    """A stage that encodes once what training reads in every step.

    Attributes:
        kind: field of `Needs` that lists what is encoded.
        counted: what its items are called.
    """

    kind: Kind
    counted: str


ENCODE_TEXT = EncodeStage("encode text", "text_encoder", "text encoder", "encoding captions", "texts", "texts")
ENCODE_IMAGES = EncodeStage("encode images", "vae", "VAE", "encoding images", "pictures", "images")
TRAIN = Stage("train", "transformer", "transformer", "loading the model")

ENCODE_STAGES = (ENCODE_TEXT, ENCODE_IMAGES)
STAGES: Sequence[Stage] = (*ENCODE_STAGES, TRAIN)


def describe_stages() -> str:
    """A line for the plan."""
    return f"stages: {', '.join(f'{stage.name} ({stage.label})' for stage in STAGES)}; each is then freed"
