"""What a job's images, captions and samples ask of the model's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.cards import ModelCard
from toolkit.config import DatasetConfig, SampleItem
from toolkit.data.buckets import Size
from toolkit.data.examples import Example
from toolkit.data.references import ReferenceRules, measure_references
from toolkit.encode.storage import MEMORY_LIMIT_BYTES
from toolkit.plan.encoded_size import bytes_in_memory
from toolkit.plan.plan_inputs import Workload


def measure_workload(
    card: ModelCard,
    examples: Sequence[Example],
    captions: Mapping[str, Path | None],
    items: Sequence[SampleItem],
    *,
    rules: ReferenceRules,
    keeps_vae: bool,
) -> Workload:
    """The largest of everything that goes through the model.

    Args:
        card: of the model.
        examples: all of them.
        captions: each distinct text, and the cache folder that keeps its embeddings; None for memory.
        items: all samples.
        rules: how reference images are seen.
        keeps_vae: the VAE stays loaded while training.
    """
    latents = 0 if card.size is None else sum(_area(size) for size in _pictures(examples)) * card.size.vae.latents
    kept = bytes_in_memory(len(captions), card.prompt_embeds_shape) + round(latents)
    shown = [(item, _shown_px(item, rules)) for item in items]
    longest = max(examples, key=lambda example: sum(map(_area, example.layout)))
    return Workload(
        train_px=sum(map(_area, longest.layout)),
        reference_px=sum(map(_area, longest.layout[1:])),
        encode_px=max(_area(size) for example in examples for size in example.layout),
        sample_px=max((item.width * item.height + sum(px) for item, px in shown), default=0),
        shown_px=max((largest for _, px in shown for largest in px), default=0),
        decode_px=max((item.width * item.height for item in items), default=0),
        keeps_vae=keeps_vae,
        encodings=min(kept, MEMORY_LIMIT_BYTES),
    )


def latents_on_disk(examples: Sequence[Example], datasets: Sequence[DatasetConfig], card: ModelCard) -> int:
    """Bytes of the encoded pictures that are kept for later runs."""
    if card.size is None:
        return 0
    kept = [example for example in examples if datasets[example.dataset_index].cache_latents_to_disk]
    return round(sum(_area(size) for size in _pictures(kept)) * card.size.vae.latents)


def _pictures(examples: Sequence[Example]) -> list[Size]:
    """The size of every picture that is encoded; repeats are encoded once."""
    pictures = {
        (example.content_hash, example.fit, example.flip_x, example.flip_y): example.layout for example in examples
    }
    return [size for layout in pictures.values() for size in layout]


def _shown_px(item: SampleItem, rules: ReferenceRules) -> list[int]:
    """Pixels of the references of a sample: as in training."""
    infos, _ = measure_references(item.references, rules.limits)
    references = rules.fit(infos, (item.width, item.height), background=(0, 0, 0))
    return [_area(reference.fit.bucket) for reference in references]


def _area(size: Size) -> int:
    return size[0] * size[1]
