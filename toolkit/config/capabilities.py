"""Settings that only some models can follow, held against the model's card."""

from __future__ import annotations

from toolkit.cards import ModelCard
from toolkit.config.process import ProcessConfig
from toolkit.errors import Problem


def beyond_the_model(process: ProcessConfig, card: ModelCard) -> list[Problem]:
    """What a process asks of its model that the card does not promise."""
    if "references" in card.capabilities:
        return []
    what = f"{card.label} takes no reference images. Remove the key, or choose a model that does"
    places = [f"datasets[{index}].control_path" for index, one in enumerate(process.datasets) if one.control_folders]
    for name, sample in (("sample", process.sample), ("first_sample", process.first_sample)):
        if sample is not None:
            items = sample.items()
            places += [f"{name}.samples[{index}].ctrl_img" for index, item in enumerate(items) if item.references]
    return [Problem(place, what) for place in places]
