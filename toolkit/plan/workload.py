"""Turns the needs of a run into the workload that its memory plan is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from toolkit.cards import ModelCard
from toolkit.config import DatasetConfig, SampleItem, TrainingProcessConfig
from toolkit.data.buckets import Size
from toolkit.data.examples import Layout, LossMask
from toolkit.encode.storage import MEMORY_LIMIT_BYTES
from toolkit.encode.vision import EncoderFacts, VisionEncoder
from toolkit.plan.encoded_size import bytes_in_memory
from toolkit.plan.needs import Needs, Picture
from toolkit.plan.objective_needs import objective_needs
from toolkit.plan.plan_inputs import Workload


def workload_of(
    needs: Needs,
    card: ModelCard,
    encoders: Mapping[VisionEncoder, EncoderFacts] = MappingProxyType({}),
    *,
    embeds_text: bool = False,
) -> Workload:
    """The workload of a run: the largest inputs of each kind that go through the model.

    Args:
        needs: the needs of the run.
        card: the card of its model.
        encoders: the vision encoders that are on this machine; others are not counted.
        embeds_text: see `TrainingProcessConfig.embeds_text`.
    """
    text_bytes = bytes_in_memory(len(needs.texts), card.text_shape(is_embedded=embeds_text))
    latents = 0 if card.size is None else _pixels(needs.pictures) * card.size.vae.latents
    kept = text_bytes + round(latents) + view_bytes(needs, encoders)
    tracked = 0 if card.size is None else round(needs.tracked_px * card.size.vae.latents)
    used = {view.encoder for view in needs.views} & set(encoders)
    scorer = None if needs.scored_with is None else encoders.get(needs.scored_with)
    longest = max(needs.trained, key=_layout_area, default=())
    return Workload(
        train_px=_layout_area(longest),
        reference_px=_layout_area(longest[1:]),
        encode_px=max((_area(size) for layout in (*needs.trained, *needs.validated) for size in layout), default=0),
        validate_px=max(map(_layout_area, needs.validated), default=0),
        validate_together=needs.validated_together,
        sample_px=max(map(_layout_area, needs.sampled), default=0),
        shown_px=max((_area(size) for layout in needs.sampled for size in layout[1:]), default=0),
        decode_px=max((_area(layout[0]) for layout in needs.sampled), default=0),
        keeps_vae=needs.keeps("vae"),
        passes=max(1, needs.passes.with_gradient),
        encodings=min(kept, MEMORY_LIMIT_BYTES) + tracked,
        view_parameters=max((encoders[one].num_weights for one in used), default=0),
        view_numbers=max((encoders[one].working_numbers for one in used), default=0),
        score_parameters=0 if scorer is None else max(scorer.num_weights, scorer.num_text_weights),
        score_numbers=0 if scorer is None else scorer.working_numbers,
    )


def assumed_needs(process: TrainingProcessConfig, card: ModelCard) -> Needs:
    """Needs with the largest sizes that a job's settings allow, for use when its images are not available."""
    configs = [] if process.train.disable_sampling else [process.sample, process.first_sample or process.sample]
    count = process.num_control_images
    items = [item.with_controls(count) for config in configs for item in config.items(process.trigger_word)]
    return Needs(
        passes=objective_needs(process, card).passes,
        trained=tuple(_largest(process, dataset, card) for dataset in process.datasets),
        sampled=tuple(_sample(process, item, card) for item in items),
    )


def latents_on_disk(needs: Needs, card: ModelCard) -> int:
    """Bytes of latents that are cached on disk for later runs."""
    if card.size is None:
        return 0
    return round(_pixels([picture for picture in needs.pictures if picture.folder]) * card.size.vae.latents)


def view_bytes(needs: Needs, encoders: Mapping[VisionEncoder, EncoderFacts], *, on_disk: bool = False) -> int:
    """Bytes of the fp16 features of all distinct views; with `on_disk`, of those that are kept for later runs."""
    shapes = {encoder: facts.shape for encoder, facts in encoders.items()}
    return sum(
        2 * shapes[encoder].num_tokens * shapes[encoder].width
        for (encoder, _), folder in needs.distinct_views.items()
        if encoder in shapes and (folder is not None or not on_disk)
    )


def _pixels(pictures: Iterable[Picture]) -> int:
    """Total pixels of all distinct pictures; repeated ones are encoded once."""
    sources = [picture.source for picture in pictures if not isinstance(picture.source, LossMask)]
    distinct = {(one.content_hash, one.fit, one.flip_x, one.flip_y): one.fit.bucket for one in sources}
    return sum(map(_area, distinct.values()))


def _largest(process: TrainingProcessConfig, dataset: DatasetConfig, card: ModelCard) -> Layout:
    side, count, limits = (
        max(dataset.resolution),
        len(dataset.control_folders) - process.num_control_folders,
        card.reference_limits,
    )
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
