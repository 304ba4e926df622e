"""The kinds of adapter that a job can train: one row each, readable without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from toolkit.adapters import size
from toolkit.choice import Choice

Input = Literal["view", "control", "none"]
LORA_SUFFIX = "_LoRA"
"""What the file of a network that is trained beside adapters has between the name of the job and the step."""


@dataclass(frozen=True)
class AdapterChoice(Choice):
    """What a job's `adapter.type` means.

    Attributes:
        reads: what the adapter reads of each example: a `view`, which is a picture seen by a vision encoder; `control`
            pictures in latent space; or `none`.
        suffix: between the name of the job and of the adapter's file, where a LoRA is trained beside it.
        num_tokens: default of `num_tokens`; None for an adapter without tokens of its own.
        is_in_pixels: whether the transformer is trained on pixels, without a VAE.
        adds_rows: whether it adds rows to the prompt's, as the text encoder gives them.
        needs_whole_sequence: whether it must know which tokens are the noisy image's; processes that share a sequence
            have a part of it each.
        count: number of its weights, given its section, the model's card, and the shape of its views or None.
        count_in_block: number of those that belong to each block which has some, given the same; None without any.
    """

    reads: Input = "none"
    suffix: str = "_adapter"
    num_tokens: int | None = None
    is_in_pixels: bool = False
    adds_rows: bool = False
    needs_whole_sequence: bool = True
    count: Callable[[Any, Any, Any], int] = lambda config, card, shape: 0
    count_in_block: Callable[[Any, Any, Any], int] | None = None


ADAPTERS = {
    "ip": AdapterChoice(
        "toolkit.adapters.ip:IPAdapter",
        summary="Style or identity from a few tokens of an image, read through additional attention.",
        reads="view",
        suffix="_ip",
        num_tokens=4,
        count=size.ip,
        count_in_block=size.ip_in_block,
    ),
    "ip+": AdapterChoice(
        "toolkit.adapters.ip:IPAdapterPlus",
        summary="Like `ip`, with tokens gathered from all patches of the image.",
        reads="view",
        suffix="_ip",
        num_tokens=16,
        count=size.ip_plus,
        count_in_block=size.ip_in_block,
    ),
    "vision_direct": AdapterChoice(
        "toolkit.adapters.vision_direct:VisionDirectAdapter",
        summary="Like `ip`, with the vision encoder's own tokens, so that layout survives.",
        reads="view",
        count=size.vision_direct,
        count_in_block=size.vision_direct_in_block,
    ),
    "redux": AdapterChoice(
        "toolkit.adapters.redux:ReduxAdapter",
        summary="Turns an image into rows that are appended to the prompt.",
        reads="view",
        adds_rows=True,
        count=size.redux,
    ),
    "control_lora": AdapterChoice(
        "toolkit.adapters.control.control_lora:ControlLoraAdapter",
        summary="Adds control pictures, such as edges or depth, to the noisy latents.",
        reads="control",
        count=size.control_lora,
    ),
    "subpixel": AdapterChoice(
        "toolkit.adapters.subpixel:SubpixelAdapter",
        summary="Trains on pixels, without the VAE: a research toy.",
        count=size.subpixel,
        is_in_pixels=True,
    ),
    "mean_flow": AdapterChoice(
        "toolkit.adapters.mean_flow:MeanFlowAdapter",
        summary="Tells the model at which noise level a step ends, so that a few large steps suffice.",
        count=size.mean_flow,
        needs_whole_sequence=False,
    ),
}


def file_suffixes(kinds: Sequence[str], *, is_alone: bool) -> list[str]:
    """What the files of a job's adapters have between the name of the job and the step.

    Args:
        kinds: the kinds of its adapters.
        is_alone: whether there is nothing but one adapter, whose file has the name of the job.
    """
    suffixes = Counter(ADAPTERS[kind].suffix for kind in kinds)
    return [
        "" if is_alone else ADAPTERS[kind].suffix if suffixes[ADAPTERS[kind].suffix] == 1 else f"_{kind}"
        for kind in kinds
    ]


def possible_suffixes() -> tuple[str, ...]:
    """All that can stand between the name of a job and the step in the name of a file of weights; empty for nothing."""
    of_kinds = [name for kind, choice in ADAPTERS.items() for name in (choice.suffix, f"_{kind}")]
    return tuple(dict.fromkeys(["", LORA_SUFFIX, *of_kinds]))
