"""The stages of a training run: the one list that is run, printed and predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from toolkit.plan.needs import Component, Kind, Needs


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
        kind: of what is encoded.
        counted: what its items are called.
    """

    kind: Kind
    counted: str


ENCODE_TEXT = EncodeStage("encode text", "text_encoder", "text encoder", "encoding captions", "texts", "texts")
ENCODE_IMAGES = EncodeStage("encode images", "vae", "VAE", "encoding images", "pictures", "images")
TRAIN = Stage("train", "transformer", "transformer", "loading the model")

ENCODE_STAGES = (ENCODE_TEXT, ENCODE_IMAGES)
STAGES: Sequence[Stage] = (*ENCODE_STAGES, TRAIN)


def without_a_stage(needs: Needs) -> list[Kind]:
    """Kinds of which a part of the run needs something, and which no stage encodes: there must be none."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    return [kind for kind in kinds if needs.encoded(kind) and all(stage.kind != kind for stage in ENCODE_STAGES)]


def describe_stages() -> str:
    """A line for the plan."""
    return f"stages: {', '.join(f'{stage.name} ({stage.label})' for stage in STAGES)}; each is then freed"
