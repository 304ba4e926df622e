"""The model card of a trained LoRA or model: README.md, as the hub shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toolkit.cards import ModelCard
from toolkit.config import TrainingProcessConfig
from toolkit.version import VERSION

# Names by which the hub files licences; what is none of them is `other`, by its name.
_LICENSES = {"Apache-2.0": "apache-2.0", "MIT": "mit"}


@dataclass(frozen=True)
class CardSample:
    """A picture for the card.

    Attributes:
        path: relative to the card.
        prompt: the prompt that it was drawn from.
    """

    path: str
    prompt: str


def model_card(
    name: str, config: TrainingProcessConfig, card: ModelCard, weights: str, samples: Sequence[CardSample]
) -> str:
    """The text of README.md.

    It names nothing of the machine: of the base model its hub id, of datasets nothing.

    Args:
        name: of the job.
        config: its settings.
        card: of the base model.
        weights: file name of the final weights; of a folder its name with `/`.
        samples: pictures of the last step.
    """
    base = _base_of(config, card)
    head = _front_matter(config, card, base, samples)
    parts = [f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---", f"# {_escaped(name)}"]
    what = "A full fine-tune" if config.network is None and config.train.full_finetune else "Weights trained"
    parts.append(f"{what} on top of {card.label}.")
    if config.trigger_word:
        parts.append(f"**Trigger word:** `{config.trigger_word}`")
    if samples:
        cells = [f"![{_escaped(sample.prompt)}]({sample.path})" for sample in samples]
        parts.append("\n\n".join(["## Samples", *cells]))
    if config.network is not None and config.network.type == "lora" and not config.adapter:
        parts.append(_usage(base, weights, config.trigger_word))
    parts.append(_training(config))
    return "\n\n".join(parts) + "\n"


def _base_of(config: TrainingProcessConfig, card: ModelCard) -> str:
    """The hub id of the base model: as the job names it, or else of the model's card."""
    named = config.model.name_or_path
    is_id = named.count("/") == 1 and not named.startswith((".", "/", "~")) and not Path(named).exists()
    return named if is_id else card.source


def _front_matter(
    config: TrainingProcessConfig, card: ModelCard, base: str, samples: Sequence[CardSample]
) -> dict[str, Any]:
    license_id = _LICENSES.get(card.license)
    head: dict[str, Any] = {"license": license_id or "other"}
    if license_id is None:
        head["license_name"] = card.license.lower().replace(" ", "-")
    head |= {
        "base_model": base,
        "base_model_relation": "finetune" if config.train.full_finetune else "adapter",
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image" if any(one.control_folders for one in config.datasets) else "text-to-image",
        "tags": ["text-to-image", card.family, *([config.network.type] if config.network else [])],
    }
    if config.trigger_word:
        head["instance_prompt"] = config.trigger_word
    if samples:
        head["widget"] = [{"text": sample.prompt, "output": {"url": sample.path}} for sample in samples]
    return head


def _usage(base: str, weights: str, trigger_word: str | None) -> str:
    prompt = f"a picture of {trigger_word}" if trigger_word else "your prompt"
    return f"""## Use with diffusers

```python
import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained({base!r}, torch_dtype=torch.bfloat16).to("cuda")
pipeline.load_lora_weights("THIS_REPOSITORY", weight_name={weights!r})
pipeline({prompt!r}).images[0].save("picture.png")
```

The file also opens in ComfyUI: put it into `models/loras`."""


def _training(config: TrainingProcessConfig) -> str:
    train = config.train
    rows: Mapping[str, Any] = {
        "network": config.network.describe() if config.network else "none",
        "steps": train.steps,
        "batch size": train.batch_size,
        "learning rate": f"{train.lr:g}",
        "optimizer": train.optimizer,
        "resolutions": ", ".join(dict.fromkeys(str(size) for one in config.datasets for size in one.resolution)),
    }
    table = "\n".join(f"| {key} | {_escaped(str(value))} |" for key, value in rows.items())
    return f"## Training\n\nTrained with flux2-trainer {VERSION}.\n\n| setting | value |\n|---|---|\n{table}"


def _escaped(text: str) -> str:
    """A text as Markdown shows it, on one line."""
    one_line = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in r"\`*_[]<>|#!" else letter for letter in one_line)
