"""Which samples a run draws, and what they need."""

from __future__ import annotations

from toolkit.cards import ModelCard
from toolkit.config import SampleItem, TrainingProcessConfig
from toolkit.data.references import ReferenceRules, measure_references
from toolkit.plan.needs import Needs, Resident

_DECODER = Resident("vae", "the VAE stays loaded while training, to decode samples")


def sample_items(config: TrainingProcessConfig, *, first: bool = False) -> tuple[SampleItem, ...]:
    """The samples of one round; with `first`, of the round before the first step."""
    if config.train.disable_sampling:
        return ()
    sample = config.first_sample if first and config.first_sample else config.sample
    return sample.items(config.trigger_word)


def all_items(config: TrainingProcessConfig) -> tuple[SampleItem, ...]:
    """The samples of the round before the first step and of all later rounds."""
    return (*sample_items(config, first=True), *sample_items(config))


def reference_rules(config: TrainingProcessConfig, card: ModelCard) -> ReferenceRules:
    """How the reference images of samples are resized."""
    match_target = config.model.model_kwargs.match_target_res
    return ReferenceRules(card.reference_limits, card.divisor_px, match_target=match_target)


def sample_needs(config: TrainingProcessConfig, card: ModelCard) -> Needs:
    """The prompts and sizes of all samples, and the VAE that decodes them."""
    items, rules = all_items(config), reference_rules(config, card)
    return Needs(
        texts={text: None for item in items for text in item.prompts(card)},
        resident=(_DECODER,) if items else (),
        sampled=tuple((_size(item), *_references(item, rules)) for item in items),
    )


def _size(item: SampleItem) -> tuple[int, int]:
    return item.width, item.height


def _references(item: SampleItem, rules: ReferenceRules) -> list[tuple[int, int]]:
    infos, _ = measure_references(item.references, rules.limits)
    return [reference.fit.bucket for reference in rules.fit(infos, _size(item), background=(0, 0, 0))]
