"""Takes the images that are only scored out of the datasets, and makes sure that none of them is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from toolkit.config import TrainingProcessConfig, ValidationConfig
from toolkit.data.buckets import Size, fit_to_bucket
from toolkit.data.captions.variants import put_trigger
from toolkit.data.examples import Example
from toolkit.data.image_files import DECODE_ERRORS, IMAGES, ImageError, open_image, read_image
from toolkit.data.scan_result import Findings, Scan
from toolkit.randomness import Draws

KEY = "train.validation_config"
_NAMED = 3


def with_held_out(scan: Scan, config: TrainingProcessConfig, *, divisor_px: int) -> Scan:
    """The scan with `held_out`, whose images are no longer among the examples, and with the problems found.

    Args:
        scan: the scanned datasets of the job.
        config: the job's settings.
        divisor_px: both sides of every bucket are multiples of this.
    """
    validation, findings = config.validation, Findings()
    if validation is None:
        return scan
    own = [example for example in scan.examples if config.datasets[example.dataset_index].validation]
    rest = [example for example in scan.examples if not config.datasets[example.dataset_index].validation]
    taken = _split(rest, validation, config.training_seed, findings) if validation.scores_images else set()
    trained = [example for example in rest if example.content_hash not in taken]
    items = _items(config, validation, divisor_px, findings) if validation.scores_images else []
    given = [*items, *((f"datasets[{example.dataset_index}]", example) for example in own)]
    _report_trained(given, trained, findings)
    split = [example for example in rest if example.content_hash in taken]
    held_out = tuple(map(fixed, first_of_each([*(example for _, example in given), *split])))
    if validation.insists_on("held_out") and not held_out and not findings.problems and not scan.problems:
        what = (
            "held_out: there are no held-out images. Set `validation_split` or `validation_items`, or mark a dataset "
            "with `validation: true`"
        )
        findings.problem(f"{KEY}.questions", what)
    if taken and not findings.problems:
        names = sorted(example.path.name for example in first_of_each(split))
        findings.remark(Path(KEY), "not trained on, only scored", names)
    return replace(
        scan,
        examples=tuple(trained),
        held_out=held_out,
        problems=(*scan.problems, *findings.problems),
        notices=(*scan.notices, *findings.notices),
    )


def first_of_each(examples: Iterable[Example]) -> list[Example]:
    """The first example of each image, whatever its repeats, flips and sizes."""
    found: dict[str, Example] = {}
    for example in examples:
        found.setdefault(example.content_hash, example)
    return list(found.values())


def fixed(example: Example) -> Example:
    """The example as it is scored: always the same pixels and words."""
    return replace(
        example,
        random_crop=False,
        random_scale=False,
        jitter=None,
        variants=(),
        reference_dropout_rate=0.0,
        is_reg=False,
    )


def _split(examples: Sequence[Example], validation: ValidationConfig, seed: int, findings: Findings) -> set[str]:
    """The hashes of the images that are held out; equal files stay together."""
    wanted = validation.validation_split
    if not wanted:
        return set()
    hashes = sorted({example.content_hash for example in examples if not example.is_reg})
    count = int(wanted) if wanted >= 1 else max(1, round(wanted * len(hashes)))
    if count >= len(hashes):
        what = f"{wanted:g} takes {count} of {len(hashes)} images, which leaves none to train on. Lower it"
        findings.problem(f"{KEY}.validation_split", what)
        return set()
    return set(Draws(seed).python("validation split").sample(hashes, count))


def _items(
    config: TrainingProcessConfig, validation: ValidationConfig, divisor_px: int, findings: Findings
) -> list[tuple[str, Example]]:
    found = []
    for index, item in enumerate(validation.validation_items):
        where = f"{KEY}.validation_items[{index}].image_path"
        try:
            info = IMAGES.inspect(item.image_path)
        except ImageError as error:
            findings.problem(where, f"{item.image_path} cannot be read: {error}. Repair the image, or remove the item")
            continue
        if validation.resolution < divisor_px:
            what = (
                f"{validation.resolution} is below the smallest size that the model supports; use {divisor_px} or more"
            )
            findings.problem(f"{KEY}.resolution", what)
            break
        fit = fit_to_bucket(info.width, info.height, resolution=validation.resolution, divisor=divisor_px)
        caption = put_trigger(item.prompt, config.trigger_word, must_have=False)
        dropped = config.trigger_word or ""
        example = Example(
            path=item.image_path,
            content_hash=info.content_hash,
            caption=caption if config.uses_captions else dropped,
            dropped_caption=dropped,
            caption_dropout_rate=0.0,
            fit=fit,
            random_crop=False,
            flip_x=False,
            flip_y=False,
            loss_weight=1.0,
            is_reg=False,
            dataset_index=0,  # whose background and caches it shares
        )
        found.append((where, example))
    return found


def _report_trained(given: Sequence[tuple[str, Example]], trained: Sequence[Example], findings: Findings) -> None:
    """Report held-out images that are trained on: the same file, an equal file, or equal pixels."""
    if not given:
        return
    by_hash = {example.content_hash: example.path for example in trained}
    sizes = {example.fit.source for _, example in given}
    others = {example.path: example.fit.source for example in trained if example.fit.source in sizes}
    by_pixels = {key: path for path, key in _pixels(others).items() if key is not None}
    own = _pixels({example.path: example.fit.source for _, example in given})
    found: dict[str, list[str]] = {}
    for where, example in given:
        twin = by_hash.get(example.content_hash) or by_pixels.get(own[example.path] or "")
        if twin is not None:
            found.setdefault(where, []).append(f"{example.path} (as {twin})")
    for where, names in found.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        what = f"also trained on: {', '.join(names[:_NAMED])}{more}. Remove the image from one of the two"
        findings.problem(where, what)


def _pixels(sizes: dict[Path, Size]) -> dict[Path, str | None]:
    """A hash of the pixels of each image; None if it cannot be read."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(sizes, pool.map(_pixel_hash, sizes), strict=True))


def _pixel_hash(path: Path) -> str | None:
    try:
        image = open_image(read_image(path)).convert("RGBA")
    except (ImageError, *DECODE_ERRORS):
        return None
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
