"""Scans the datasets before training: checks every image, reads every caption and assigns every bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.cards import ModelCard, ReferenceLimits
from toolkit.config import TrainingProcessConfig
from toolkit.config.dataset import DatasetConfig
from toolkit.data.beside.counterparts import with_counterparts
from toolkit.data.beside.masks import with_masks, without_sidecars
from toolkit.data.buckets import Fit
from toolkit.data.captions.pictures import (
    NO_SHORT,
    Picture,
    caption_pictures,
    report_missing_captions,
    report_variants,
    trigger_words,
)
from toolkit.data.captions.variants import Variation
from toolkit.data.controls import with_controls
from toolkit.data.examples import Colors, Example
from toolkit.data.fits import fit_images, report_small_images
from toolkit.data.image_files import HEIC_REMEDY, IMAGES, ImageError, ImageInfo
from toolkit.data.references import ReferenceRules, match_references, usable_references
from toolkit.data.scan_result import DatasetTable, Findings, Scan
from toolkit.data.sources.find import list_images
from toolkit.data.sources.folders import is_heic
from toolkit.data.sources.listing import Listing
from toolkit.data.validation.held_out import with_held_out
from toolkit.data.view_images import Views, match_views, separate_folders, usable_views, view_of
from toolkit.objectives.choices import OBJECTIVES

WORTH_CACHING = 1000  # images; encoding them takes many minutes on a card


def scan_job(config: TrainingProcessConfig, card: ModelCard) -> Scan:
    """The scanned datasets of a job, with control pictures, masks and counterparts; held-out images are apart."""
    scan = scan_datasets(
        config.datasets,
        divisor_px=card.divisor_px,
        trigger_word=config.trigger_word,
        reg_weight=config.train.reg_weight,
        rules=reference_rules(config, card),
        uses_captions=config.uses_captions,
        with_short_captions=config.train.short_and_long_captions,
    )
    scan = with_controls(scan, config.datasets, config.control_adapter)
    scan = with_masks(scan, config.datasets)
    scan = with_counterparts(scan, config.datasets) if OBJECTIVES[config.train.objective].reads_pairs else scan
    return with_held_out(scan, config, divisor_px=card.divisor_px)


def reference_rules(config: TrainingProcessConfig, card: ModelCard) -> ReferenceRules:
    """How the reference images of a job are resized."""
    match_target = config.model.model_kwargs.match_target_res
    return ReferenceRules(
        card.reference_limits, card.divisor_px, match_target=match_target, num_controls=config.num_control_folders
    )


def scan_datasets(
    datasets: Sequence[DatasetConfig],
    *,
    divisor_px: int,
    trigger_word: str | None,
    reg_weight: float = 1.0,
    rules: ReferenceRules | None = None,
    uses_captions: bool = True,
    with_short_captions: bool = False,
) -> Scan:
    """Read every image and caption of a job once. A dataset's examples are repeated at each of its resolutions.

    Args:
        datasets: the job's `datasets`.
        divisor_px: both sides of every bucket are multiples of this; set by the model.
        trigger_word: trigger word of datasets that have none of their own.
        reg_weight: factor of the loss of regularisation images.
        rules: how reference images are resized; set by the model.
        uses_captions: False if every image is trained with the trigger word alone.
        with_short_captions: whether images are trained with their short captions in turn with the long ones.
    """
    findings = Findings()
    rules = rules or ReferenceRules(ReferenceLimits(), divisor_px)
    listings = [_listed(dataset) for dataset in datasets]
    for dataset, listing in zip(datasets, listings, strict=True):
        without_sidecars(dataset, listing, findings)
    matched = [
        match_references(dataset, listing.images, findings, num_controls=rules.num_controls)
        for dataset, listing in zip(datasets, listings, strict=True)
    ]
    seen = [
        match_views(dataset, list(references), findings) for dataset, references in zip(datasets, matched, strict=True)
    ]
    counterparts = (path for references in matched for image, paths in references.items() for path in (image, *paths))
    inspected = IMAGES.inspect_all((*counterparts, *(path for views in seen for path in views.values())))
    examples: list[Example] = []
    tables: list[DatasetTable] = []
    has_short = False
    for index, (dataset, listing) in enumerate(zip(datasets, listings, strict=True)):
        findings.problems += listing.problems
        _report_others(dataset, listing, findings)
        infos = _readable(dataset, {path: inspected[path] for path in listing.images}, findings)
        references = usable_references(dataset, matched[index], inspected, rules.limits, findings)
        views = usable_views(dataset, seen[index], inspected, findings)
        infos = {
            path: info for path, info in infos.items() if path in references and (path in views or not seen[index])
        }
        trigger = dataset.trigger_word or trigger_word
        reads_captions = uses_captions and dataset.caption_dropout_rate < 1
        words = trigger_words(dataset, findings) if reads_captions else ()
        variation = Variation(dataset, trigger, words, with_short=with_short_captions)
        pictures = caption_pictures(dataset, infos, listing, variation, findings)
        has_short |= any(picture.has_short for picture in pictures)
        if reads_captions:
            report_variants(dataset, pictures, variation, findings)
            report_missing_captions(dataset, pictures, trigger, findings)
        if dataset.color_jitter is not None and dataset.control_folders:
            what = (
                "would teach the model to change colours, since reference images keep theirs. Remove it, or "
                "`control_path`"
            )
            findings.problem(f"datasets[{index}].color_jitter", what)
        several = [path for path, info in infos.items() if info.num_frames > 1]
        what = "with several frames or pages, only the first is used"
        findings.notice(dataset.folder_path, what, several)
        report_small_images(dataset, infos, divisor_px, findings)
        for resolution in dataset.resolution:
            if resolution < divisor_px:
                what = f"{resolution} is below the smallest size that the model supports; use {divisor_px} or more"
                findings.problem(f"datasets[{index}].resolution", what)
                continue
            fits = fit_images(dataset, infos, resolution, divisor_px, findings)
            weight = dataset.loss_multiplier * (reg_weight if dataset.is_reg else 1.0)
            dropped = "" if dataset.is_reg else trigger or ""  # a regularisation image must not learn the trigger word
            made = _examples(
                index, dataset, pictures, fits, references, views, rules, dropped_caption=dropped, loss_weight=weight
            )
            examples += made
            num_skipped = len(listing.images) - len(infos)
            table = _table(
                index, dataset, resolution, pictures, made, num_skipped=num_skipped, uses_captions=reads_captions
            )
            tables.append(table)
    if with_short_captions and examples and not has_short:
        findings.problem("train.short_and_long_captions", f"{NO_SHORT}, or remove the key")
    _report_weights(datasets, examples, findings)
    _report_uncached(datasets, examples, findings)
    return Scan(tuple(examples), tuple(findings.problems), tuple(findings.notices), tuple(tables))


def _report_uncached(datasets: Sequence[DatasetConfig], examples: Sequence[Example], findings: Findings) -> None:
    """Report large datasets that every start would encode again."""
    for index, dataset in enumerate(datasets):
        own = [example for example in examples if example.dataset_index == index]
        num_images = len({example.path for example in own})
        if num_images >= WORTH_CACHING and not dataset.cache_latents_to_disk and not dataset.is_drawn:
            what = f"{num_images} images are encoded again at every start: `cache_latents_to_disk: true` avoids that"
            findings.remark(dataset.folder_path, what)


def _report_weights(datasets: Sequence[DatasetConfig], examples: Sequence[Example], findings: Findings) -> None:
    """Report datasets whose steps change nothing; if that is all of them, nothing would be learned."""
    counts = dict.fromkeys(range(len(datasets)), False)
    for example in examples:
        counts[example.dataset_index] |= example.loss_weight > 0 and datasets[example.dataset_index].share_of_steps != 0
    idle = [index for index, is_counted in counts.items() if not is_counted]
    if examples and len(idle) == len(datasets):
        what = "every loss has the weight 0, so nothing is learned: see `loss_multiplier` and `reg_weight`"
        findings.problem("datasets", what)
        return
    for index in idle:
        if any(example.dataset_index == index for example in examples) and datasets[index].share_of_steps != 0:
            what = "its loss has the weight 0, so that steps on it change nothing: remove it to save them"
            findings.remark(datasets[index].folder_path, what)


def _listed(dataset: DatasetConfig) -> Listing:
    return list_images(
        dataset.folder_path,
        leave_out=separate_folders(dataset),
        recursive=dataset.recursive,
        caption_ext=dataset.caption_ext,
    )


def _readable(
    dataset: DatasetConfig, inspected: Mapping[Path, ImageInfo | ImageError], findings: Findings
) -> dict[Path, ImageInfo]:
    infos = {path: info for path, info in inspected.items() if isinstance(info, ImageInfo)}
    errors = {path: error for path, error in inspected.items() if isinstance(error, ImageError)}
    if dataset.skip_unreadable:
        reasons = [f"{path.name} ({error})" for path, error in errors.items()]
        findings.notice(dataset.folder_path, "skipped as unreadable", reasons)
        if errors and not infos:
            findings.problem(dataset.folder_path, "contains no image that can be read")
        return infos
    for path, error in errors.items():
        findings.problem(path, f"cannot be read: {error}. Repair or remove it, or set `skip_unreadable: true`")
    return infos


def _report_others(dataset: DatasetConfig, listing: Listing, findings: Findings) -> None:
    heic = [path for path in listing.others if is_heic(path)]
    findings.notice(dataset.folder_path, f"in HEIC format, not used ({HEIC_REMEDY})", heic)
    others = [path for path in listing.others if not is_heic(path)]
    findings.notice(dataset.folder_path, "in an unsupported format, not used", others)
    if listing.images:
        what = "in subfolders, not used (set `recursive: true` to train on them too)"
        findings.notice(dataset.folder_path, what, listing.nested)
    missing = [path for path in listing.metadata if not path.exists()]
    findings.notice(dataset.folder_path, "listed in metadata.jsonl but missing", missing)


def _examples(
    index: int,
    dataset: DatasetConfig,
    pictures: Sequence[Picture],
    fits: Mapping[Path, Fit],
    references: Mapping[Path, Sequence[tuple[Path, ImageInfo]]],
    views: Views,
    rules: ReferenceRules,
    *,
    dropped_caption: str,
    loss_weight: float,
) -> list[Example]:
    return [
        Example(
            path=picture.path,
            content_hash=picture.info.content_hash,
            caption=picture.caption,
            variants=picture.variants,
            dropped_caption=dropped_caption,
            caption_dropout_rate=dataset.caption_dropout_rate,
            fit=fits[picture.path],
            random_crop=dataset.random_crop,
            random_scale=dataset.random_scale,
            jitter=None if dataset.color_jitter is None else Colors(**dict(dataset.color_jitter)),
            batch_size=dataset.batch_size,
            network_weight=dataset.network_weight,
            flip_x=flip_x,
            flip_y=flip_y,
            loss_weight=loss_weight,
            is_reg=dataset.is_reg,
            dataset_index=index,
            references=rules.fit(
                references[picture.path],
                fits[picture.path].bucket,
                background=dataset.control_transparent_color,
                flip_x=flip_x,
                flip_y=flip_y,
            ),
            reference_dropout_rate=dataset.control_dropout_rate,
            view=view_of(views.get(picture.path), dataset.background_color, flip_x=flip_x, flip_y=flip_y),
            is_prior=dataset.prior_reg,
        )
        for flip_x, flip_y in _flips(dataset)
        for picture in pictures
        for _ in range(dataset.num_repeats)
    ]


def _flips(dataset: DatasetConfig) -> list[tuple[bool, bool]]:
    across = (False, True) if dataset.flip_x else (False,)
    down = (False, True) if dataset.flip_y else (False,)
    return [(flip_x, flip_y) for flip_x in across for flip_y in down]


def _table(
    index: int,
    dataset: DatasetConfig,
    resolution: int,
    pictures: Sequence[Picture],
    examples: Sequence[Example],
    *,
    num_skipped: int,
    uses_captions: bool,
) -> DatasetTable:
    return DatasetTable(
        dataset_index=index,
        source=dataset.folder_path,
        resolution=resolution,
        num_images=len(pictures),
        num_captions=sum(picture.has_own_caption for picture in pictures),
        uses_captions=uses_captions,
        num_skipped=num_skipped,
        num_copies=dataset.num_repeats * len(_flips(dataset)),
        num_references=max((len(example.references) for example in examples), default=0),
        is_reg=dataset.is_reg,
        buckets=dict(Counter(example.bucket for example in examples).most_common()),
    )
