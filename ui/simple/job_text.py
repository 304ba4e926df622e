"""The job that a few choices stand for, as the text of a job file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toolkit.cards import ModelCard
from toolkit.errors import UserError

# Sizes to train at, as shares of what suits the model: small images take a fraction of the time.
SIZES = {"quick": (0.5,), "usual": (1.0,), "thorough": (0.5, 0.75, 1.0)}
STEPS_PER_IMAGE, FEWEST_STEPS, MOST_STEPS = 100, 500, 4000
SAMPLE_ROUNDS = 8


@dataclass(frozen=True)
class Choices:
    """What the page asks for.

    Attributes:
        name: name of the job and of its folders.
        trigger: made-up word for what is learned; empty if there is none.
        folder: folder of the images and captions.
        output: folder of all output folders.
        size: a key of `SIZES`.
        steps: optimizer steps in all.
        rank: rank of the LoRA.
        lr: learning rate.
        prompts: prompts of the sample images.
    """

    name: str
    trigger: str
    folder: Path
    output: Path
    size: str
    steps: int
    rank: int
    lr: float
    prompts: Sequence[str]


def suggested_steps(num_images: int) -> int:
    """A fair number of steps for a dataset."""
    return max(FEWEST_STEPS, min(MOST_STEPS, num_images * STEPS_PER_IMAGE))


def resolutions(card: ModelCard, size: str) -> list[int]:
    """The side lengths, in pixels, that a size preset trains a model at."""
    (full,) = card.defaults["datasets"]["resolution"][-1:]
    step = max(card.divisor_px, 64) if full >= 256 else card.divisor_px
    return sorted({max(step, round(full * share / step) * step) for share in SIZES[size]})


def job_text(choices: Choices, card: ModelCard) -> str:
    """A job file.

    Args:
        choices: made on the page.
        card: card of the model to train.

    Raises:
        UserError: a choice cannot be used.
    """
    sample: dict[str, Any] = {"sample_every": max(1, choices.steps // SAMPLE_ROUNDS)}
    prompts = [prompt.strip() for prompt in choices.prompts if prompt.strip()]
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": choices.output.as_posix(),
        "trigger_word": choices.trigger.strip() or None,
        "model": {"arch": card.arch, "name_or_path": card.source, "memory": "auto"},
        "network": {"type": "lora", "linear": choices.rank, "linear_alpha": choices.rank},
        "datasets": [{"folder_path": choices.folder.as_posix(), "resolution": resolutions(card, choices.size)}],
        "train": {"steps": choices.steps, "lr": choices.lr, "batch_size": 1},
        "save": {"save_every": max(1, choices.steps // 4)},
        "sample": sample | ({"prompts": prompts} if prompts else {}),
    }
    if card.size is None:
        del process["model"]["memory"]  # nothing can be planned for a model that does not say how large it is
    if not prompts:
        process["train"]["disable_sampling"] = True
    tree = {"job": "extension", "config": {"name": job_name(choices.name), "process": [_without_none(process)]}}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)


def job_name(text: str) -> str:
    """A name that can be a folder, from what the user has typed.

    Raises:
        UserError: nothing of it can be used.
    """
    name = re.sub(r"[^\w-]+", "_", text.strip()).strip("_")[:60]
    if not name:
        raise UserError("Name: write a name with letters or numbers; it becomes the name of the output folder.")
    return name


def _without_none(process: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in process.items() if value is not None}
