"""What a run's datasets need to have encoded and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.config import TrainingProcessConfig
from toolkit.data.controls import control_pictures
from toolkit.data.examples import Example
from toolkit.encode.storage import LATENT_CACHE, TEXT_CACHE, VIEW_CACHE, cache_folder
from toolkit.encode.vision import view_inputs
from toolkit.plan.needs import Needs, Picture, Resident, View

_PIXELS = Resident("vae", "subpixel: trained directly on pixels; no VAE is loaded")
_DRAWS_PIXELS = ("random_crop", "random_scale", "color_jitter")
_DRAWN = "{}: the VAE stays loaded and encodes every batch, so steps take longer"


def dataset_needs(config: TrainingProcessConfig, examples: Sequence[Example], output_folder: Path) -> Needs:
    """Every caption and image, what adapters see of each, and the VAE if pixels are other ones at each use.

    Args:
        config: the run's config.
        examples: all examples of the run.
        output_folder: the job's output folder.
    """
    trained = [dataset for dataset in config.datasets if not dataset.validation]
    keys = [key for key in _DRAWS_PIXELS if any(getattr(dataset, key) for dataset in trained)]
    drawn = (Resident("vae", _DRAWN.format(", ".join(keys))),) if keys else ()
    texts = _texts(config, examples, output_folder)
    return Needs(
        texts=texts,
        captions=frozenset(texts),
        pictures=_pictures(config, examples, output_folder),
        views=_views(config, examples, output_folder),
        resident=(_PIXELS,) if config.is_in_pixels else drawn,
        without=config.without,
        trained=tuple(dict.fromkeys(example.layout for example in examples)),
    )


def text_folder(config: TrainingProcessConfig, dataset_index: int, output_folder: Path) -> Path | None:
    """Cache folder for the captions of a dataset; None to keep them in memory."""
    dataset = config.datasets[dataset_index]
    on_disk = dataset.cache_text_embeddings or config.train.cache_text_embeddings
    return cache_folder(dataset, TEXT_CACHE, output_folder) if on_disk else None


def _texts(config: TrainingProcessConfig, examples: Sequence[Example], output_folder: Path) -> dict[str, Path | None]:
    found: dict[str, Path | None] = {}
    for example in examples:
        folder = text_folder(config, example.dataset_index, output_folder)
        for text in example.texts if config.uses_captions else (example.dropped_caption,):
            found[text] = found.get(text) or folder
    return found


def _pictures(config: TrainingProcessConfig, examples: Sequence[Example], output_folder: Path) -> tuple[Picture, ...]:
    found: dict[Picture, None] = {}
    for example in examples:
        dataset = config.datasets[example.dataset_index]
        folder = cache_folder(dataset, LATENT_CACHE, output_folder) if dataset.cache_latents_to_disk else None
        own = () if example.is_drawn else (example,)
        mask = () if example.random_crop or example.random_scale or example.mask is None else (example.mask,)
        sources = (*own, *example.references, *control_pictures(example, config.control_adapter), *mask)
        sources += () if example.counterpart is None else (example.counterpart,)
        found |= dict.fromkeys(Picture(source, folder) for source in sources)
    return tuple(found)


def _views(config: TrainingProcessConfig, examples: Sequence[Example], output_folder: Path) -> tuple[View, ...]:
    """For one encoder after the other, so that each is loaded once."""
    found: dict[View, None] = {}
    for one in view_inputs(config.adapter):
        for example in examples:
            if example.view is not None:
                dataset = config.datasets[example.dataset_index]
                on_disk = dataset.cache_clip_vision_to_disk
                folder = cache_folder(dataset, VIEW_CACHE, output_folder) if on_disk else None
                found[View(example.view, one.encoder, folder)] = None
    return tuple(found)
