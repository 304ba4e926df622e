"""Turns the needs of a run into the workload that its memory plan is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from toolkit.cards import ModelCard
from toolkit.config import DatasetConfig, SampleItem, TrainingProcessConfig
from toolkit.data.buckets import Size
from toolkit.data.examples import Layout
from toolkit.encode.storage import MEMORY_LIMIT_BYTES
from toolkit.objectives.choices import OBJECTIVES
from toolkit.plan.encoded_size import bytes_in_memory
from toolkit.plan.needs import Needs, Picture
from toolkit.plan.plan_inputs import Workload


def workload_of(needs: Needs, card: ModelCard) -> Workload:
    """The workload of a run: the largest inputs of each kind that go through the model."""
    latents = 0 if card.size is None else _pixels(needs.pictures) * card.size.vae.latents
    kept = bytes_in_memory(len(needs.texts), card.prompt_embeds_shape) + round(latents)
    longest = max(needs.trained, key=_layout_area)
    return Workload(
        train_px=_layout_area(longest),
        reference_px=_layout_area(longest[1:]),
        encode_px=max(_area(size) for layout in needs.trained for size in layout),
        sample_px=max(map(_layout_area, needs.sampled), default=0),
        shown_px=max((_area(size) for layout in needs.sampled for size in layout[1:]), default=0),
        decode_px=max((_area(layout[0]) for layout in needs.sampled), default=0),
        keeps_vae=needs.keeps("vae"),
        passes=max(1, needs.passes.with_gradient),
        encodings=min(kept, MEMORY_LIMIT_BYTES),
    )


def assumed_needs(process: TrainingProcessConfig, card: ModelCard) -> Needs:
    """Needs with the largest sizes that a job's settings allow, for use when its images are not available."""
    configs = [] if process.train.disable_sampling else [process.sample, process.first_sample or process.sample]
    items = [item for config in configs for item in config.items(process.trigger_word)]
    return Needs(
        passes=OBJECTIVES[process.train.objective].passes,
        trained=tuple(_largest(process, dataset, card) for dataset in process.datasets),
        sampled=tuple(_sample(process, item, card) for item in items),
    )


def latents_on_disk(needs: Needs, card: ModelCard) -> int:
    """Bytes of latents that are cached on disk for later runs."""
    if card.size is None:
        return 0
    return round(_pixels([picture for picture in needs.pictures if picture.folder]) * card.size.vae.latents)


def _pixels(pictures: Iterable[Picture]) -> int:
    """Total pixels of all distinct pictures; repeated ones are encoded once."""
    sources = [picture.source for picture in pictures]
    distinct = {(one.content_hash, one.fit, one.flip_x, one.flip_y): one.fit.bucket for one in sources}
    return sum(map(_area, distinct.values()))


def _largest(process: TrainingProcessConfig, dataset: DatasetConfig, card: ModelCard) -> Layout:
    side, count, limits = max(dataset.resolution), len(dataset.control_folders), card.reference_limits
    if process.model.model_kwargs.match_target_res:
        area = side**2
    else:
        area = limits.max_area_px if count == 1 else limits.max_area_each_px
    return ((side, side), *[(area, 1)] * count)  # for references, only the area matters


def _sample(process: TrainingProcessConfig, item: SampleItem, card: ModelCard) -> Layout:
    count, limits = len(item.references), card.reference_limits
    if process.model.model_kwargs.match_target_res:
        area = item.width * item.height
    else:
        area = limits.max_area_px if count == 1 else limits.max_area_each_px
    return ((item.width, item.height), *[(area, 1)] * count)


def _layout_area(sizes: Sequence[Size]) -> int:
    return sum(map(_area, sizes))


def _area(size: Size) -> int:
    return size[0] * size[1]
