"""Settings that only some models can follow, held against the model's card."""

from __future__ import annotations

from toolkit.cards import ModelCard
from toolkit.config.process import ProcessConfig
from toolkit.config.sample import SampleItem
from toolkit.errors import Problem


def beyond_the_model(process: ProcessConfig, card: ModelCard) -> list[Problem]:
    """What a process asks of its model that the card does not promise."""
    return [*_references(process, card), *_guidance(process, card)]


def _references(process: ProcessConfig, card: ModelCard) -> list[Problem]:
    if "references" in card.capabilities:
        return []
    what = f"{card.label} takes no reference images. Remove the key, or choose a model that does"
    places = [f"datasets[{index}].control_path" for index, one in enumerate(process.datasets) if one.control_folders]
    places += [f"{place}.ctrl_img" for place, item in _samples(process) if item.references]
    return [Problem(place, what) for place in places]


def _guidance(process: ProcessConfig, card: ModelCard) -> list[Problem]:
    if "fixed_guidance" not in card.capabilities:
        return []
    what = f"{card.label} draws with guidance 1 only. Remove the key"
    places = [f"{place}.guidance_scale" for place, item in _samples(process) if item.guidance_scale != 1]
    return [Problem(place, what) for place in places]


def _samples(process: ProcessConfig) -> list[tuple[str, SampleItem]]:
    return [
        (f"{name}.samples[{index}]", item)
        for name, sample in (("sample", process.sample), ("first_sample", process.first_sample))
        if sample is not None
        for index, item in enumerate(sample.items())
    ]
