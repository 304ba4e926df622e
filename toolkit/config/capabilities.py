"""Settings that only some models can follow, held against the model's card."""

from __future__ import annotations

from toolkit.cards import ModelCard
from toolkit.config.process import ProcessConfig
from toolkit.errors import Problem


def beyond_the_model(process: ProcessConfig, card: ModelCard) -> list[Problem]:
    """What a process asks of its model that the card does not promise."""
    problems = _too_many_references(process, card)
    if process.model.assistant_lora_path is not None and "assistant_lora" not in card.capabilities:
        what = f"{card.label} is trained without an assistant LoRA. Remove the key"
        problems.append(Problem("model.assistant_lora_path", what))
    return problems


def _too_many_references(process: ProcessConfig, card: ModelCard) -> list[Problem]:
    most = card.reference_limits.max_count if "references" in card.capabilities else 0
    counts = {f"datasets[{index}].control_path": len(one.control_folders) for index, one in enumerate(process.datasets)}
    for name, sample in (("sample", process.sample), ("first_sample", process.first_sample)):
        items = sample.items() if sample is not None else ()
        counts |= {f"{name}.samples[{index}].ctrl_img": len(item.references) for index, item in enumerate(items)}
    if most == 0:
        what = f"{card.label} takes no reference images. Remove the key, or choose a model that does"
    else:
        what = f"{card.label} takes {most} reference image{'s' if most > 1 else ''} for each picture. Name no more"
    return [Problem(place, what) for place, count in counts.items() if count > most]
