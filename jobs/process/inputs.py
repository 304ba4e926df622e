"""What a training run encodes and draws, as its job file and its images say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from toolkit.cards import ModelCard
from toolkit.config import DatasetConfig, SampleItem, TrainingProcessConfig
from toolkit.data.examples import Example
from toolkit.data.references import ReferenceRules

LATENT_CACHE, TEXT_CACHE, OVERFLOW_CACHE = "_latent_cache", "_t_e_cache", "_overflow_cache"


def sample_items(config: TrainingProcessConfig, *, first: bool = False) -> tuple[SampleItem, ...]:
    """The samples of one round; with `first`, of the one before the first step."""
    if config.train.disable_sampling:
        return ()
    sample = config.first_sample if first and config.first_sample else config.sample
    return sample.items(config.trigger_word)


def needs_vae(config: TrainingProcessConfig) -> bool:
    """Whether training needs the VAE: to encode crops that are new each time, or to decode samples."""
    crops = any(dataset.random_crop for dataset in config.datasets)
    return crops or bool(sample_items(config)) or bool(sample_items(config, first=True))


def reference_rules(config: TrainingProcessConfig, card: ModelCard) -> ReferenceRules:
    """How reference images are fitted."""
    match_target = config.model.model_kwargs.match_target_res
    return ReferenceRules(card.reference_limits, card.divisor_px, match_target=match_target)


def captions(config: TrainingProcessConfig, examples: Sequence[Example], output_folder: Path) -> dict[str, Path | None]:
    """Every distinct caption, and the cache folder that keeps its embeddings; None for memory."""
    found: dict[str, Path | None] = {}
    for example in examples:
        dataset = config.datasets[example.dataset_index]
        on_disk = dataset.cache_text_embeddings or config.train.cache_text_embeddings
        folder = cache_folder(dataset, TEXT_CACHE, output_folder) if on_disk else None
        for text in (example.caption, example.dropped_caption) if config.uses_captions else (example.dropped_caption,):
            found[text] = found.get(text) or folder
    return found


def cache_folder(dataset: DatasetConfig, name: str, output_folder: Path) -> Path:
    """Beside the images, as in ai-toolkit; in the output folder where the images' folder cannot be written."""
    folder = dataset.folder_path if dataset.folder_path.is_dir() else dataset.folder_path.parent
    return folder / name if os.access(folder, os.W_OK) else output_folder / name
