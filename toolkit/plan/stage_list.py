"""The stages of a training run: one list for running them, printing the plan and predicting memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from toolkit.plan.needs import Kind, Loaded, Needs


@dataclass(frozen=True)
class Stage:
    """A part of the run that loads one component, and frees it at the end unless other parts need it.

    Attributes:
        name: heading of the stage, and its name in the event log.
        component: the model component that the stage loads.
        label: name of the component in messages.
        doing: what the stage does, for the message of a run that is stopped in it before the first step.
    """

    name: str
    component: Loaded
    label: str
    doing: str

    @property
    def stopped(self) -> str:
        """The message for a run that is stopped in this stage."""
        return f"Stopped while {self.doing}, before the first step."


@dataclass(frozen=True)
class EncodeStage(Stage):
    """A stage that encodes, once, data that training reads in every step.

    Attributes:
        kind: kind of item that the stage encodes.
        counted: plural noun for the encoded items, used in messages.
        is_optional: whether the stage is left out of runs that need nothing of it.
    """

    kind: Kind
    counted: str
    is_optional: bool = False


ENCODE_TEXT = EncodeStage("encode text", "text_encoder", "text encoder", "encoding captions", "texts", "texts")
ENCODE_IMAGES = EncodeStage("encode images", "vae", "VAE", "encoding images", "pictures", "images")
ENCODE_VIEWS = EncodeStage(
    "encode views",
    "vision_encoder",
    "vision encoder",
    "encoding images for adapters",
    "views",
    "views",
    is_optional=True,
)
TRAIN = Stage("train", "transformer", "transformer", "loading the model")
DRAW = Stage("draw", "transformer", "transformer", "loading the model")

ENCODE_STAGES = (ENCODE_TEXT, ENCODE_IMAGES, ENCODE_VIEWS)


def encode_stages(needs: Needs) -> list[EncodeStage]:
    """The encode stages of a run, in order."""
    return [stage for stage in ENCODE_STAGES if needs.encoded(stage.kind) or (needs.trained and not stage.is_optional)]


def without_a_stage(needs: Needs) -> list[Kind]:
    """Kinds of input that the run needs but no stage encodes; there must be none."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    return [kind for kind in kinds if needs.encoded(kind) and all(stage.kind != kind for stage in ENCODE_STAGES)]


def describe_stages(needs: Needs) -> str:
    """A line about the stages of a run for the printed plan."""
    stages: Sequence[Stage] = (*encode_stages(needs), TRAIN if needs.trained else DRAW)
    named = [f"{one.name} ({one.label})" if one.component not in needs.without else one.name for one in stages]
    return f"stages: {', '.join(named)}; each is freed at its end"
