"""The model that samples are drawn on, if it is not the model being trained, and what it cannot be combined with."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.cards import ModelCard, find_cards
from toolkit.config.compat.released import DISTILLED, weights_of_samples, wrong_arch
from toolkit.config.model import ModelConfig, ModelPaths
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import Problem

KEY = "sample.model"


def twin_of(config: TrainingProcessConfig) -> ModelConfig | None:
    """The model that samples are drawn on, kept in memory like the model being trained; None if it is that model.

    Only its transformer is used.
    """
    setting, card = config.sample.model, config.card
    is_drawn = bool(config.sample.items() or (config.first_sample and config.first_sample.items()))
    if setting is None or card is None or not is_drawn or config.train.disable_sampling:
        return None
    source = weights_of_samples(setting, card)
    own = {"name_or_path": source, "model_paths": ModelPaths(), "assistant_lora_path": None}
    return None if source is None else config.model.model_copy(update=own)


def twin_problems(config: TrainingProcessConfig, card: ModelCard) -> list[Problem]:
    """What is wrong with `sample.model`, as far as the settings tell."""
    if config.sample.model is None:
        return []
    return [Problem(KEY, what) for what in _problems(config, config.sample.model, card)]


def _problems(config: TrainingProcessConfig, setting: str, card: ModelCard) -> Iterator[str]:
    source, train = weights_of_samples(setting, card), config.train
    if source is None:
        yield f"{card.label} has no `{DISTILLED}`. Write the hub id, folder or file of the weights to draw on"
        return
    if source == (config.model.source_of("transformer") or config.model.name_or_path):
        yield f"{source} is the model being trained. Remove the key: samples are drawn on it anyway"
    for _, what in wrong_arch({"name_or_path": source, "arch": card.arch}, find_cards()):
        yield f"{what.partition(': set')[0]}, and a network for {card.label} does not fit it. Name other weights"
    alone = {
        "train.full_finetune": train.full_finetune,
        "train.merge_network_on_save": train.merge_network_on_save,
        "adapter": bool(config.adapter),
        "train.sharding: full": train.sharding == "full",
        f"train.context_parallel: {train.context_parallel}": train.context_parallel > 1,
        "model.split_model_over_gpus": config.model.split_model_over_gpus,
    }
    for key, is_set in alone.items():
        if is_set:
            yield f"only a network can be put on other weights, in one piece, and the job has `{key}`: remove one"
