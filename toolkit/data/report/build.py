"""Gathers what a report says about the datasets of a job."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.config.dataset import DatasetConfig
from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.buckets import Size
from toolkit.data.examples import Example
from toolkit.data.report.doctor import CHECKS, Finding, Groups, diagnose, repeated_parts
from toolkit.data.report.duplicates import exact_groups, near_groups
from toolkit.data.report.looks import looks_of
from toolkit.data.report.partners import missing_partners
from toolkit.data.scan_result import Scan
from toolkit.data.sources.find import list_images
from toolkit.data.view_images import separate_folders

_SHOWN = 20


@dataclass(frozen=True)
class Spread:
    """The smallest, the middle and the largest of some numbers; zeros if there are none."""

    smallest: float
    middle: float
    largest: float


@dataclass(frozen=True)
class DatasetReport:
    """What is in one dataset.

    Attributes:
        source: its folder or file.
        num_images: number of readable images.
        width, height: of the upright images, in pixels.
        sizes: the most frequent sizes (width, height), with their number.
        num_captioned: images with a caption.
        num_texts: different captions.
        words: number of words of a caption.
        common: the most frequent comma-separated parts of captions, with their number.
        repeated: captions that several images have, with their number.
        buckets: number of examples of each size (width, height), the fullest first.
        kept: share of each image that its crop keeps.
        exact: groups of images with equal files.
        near: groups of images that look alike.
        lonely: folder -> its files that belong to no image.
        findings: what may spoil the training, picture by picture.
        everywhere: comma-separated parts that most captions have, with their number.
    """

    source: Path
    num_images: int
    width: Spread
    height: Spread
    sizes: tuple[tuple[Size, int], ...]
    num_captioned: int
    num_texts: int
    words: Spread
    common: tuple[tuple[str, int], ...]
    repeated: tuple[tuple[str, int], ...]
    buckets: tuple[tuple[Size, int], ...]
    kept: Spread
    exact: tuple[tuple[Path, ...], ...]
    near: tuple[tuple[Path, ...], ...]
    lonely: dict[Path, tuple[Path, ...]]
    findings: tuple[Finding, ...]
    everywhere: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Report:
    """What is in the datasets of a job, and the problems found."""

    datasets: tuple[DatasetReport, ...]
    problems: tuple[str, ...]
    notices: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON, with the words of its findings; paths are texts, sizes are lists."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain | {"checks": {kind: asdict(check) for kind, check in CHECKS.items()}}


def build_report(
    datasets: Sequence[DatasetConfig],
    scan: Scan,
    *,
    trigger_word: str | None = None,
    count: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """The report on scanned datasets.

    Args:
        datasets: the job's `datasets`.
        scan: their scan.
        trigger_word: a word that each caption should have; None to look for none.
        count: called with how many images have been read, of how many.
    """
    found = tuple(
        _of_dataset(
            dataset,
            [example for example in scan.examples if example.dataset_index == index],
            scan,
            trigger_word,
            count,
        )
        for index, dataset in enumerate(datasets)
    )
    return Report(found, tuple(map(str, scan.problems)), scan.notices)


def _of_dataset(
    dataset: DatasetConfig,
    examples: Sequence[Example],
    scan: Scan,
    trigger_word: str | None,
    count: Callable[[int, int], None],
) -> DatasetReport:
    images = {example.path: example for example in reversed(examples)}
    hashes = {path: images[path].content_hash for path in sorted(images)}
    captions = [text for example in images.values() for text in set(example.variants or (example.caption,)) if text]
    texts = Counter(captions)
    parts = Counter(part.strip() for text in texts for part in text.split(",") if part.strip())
    looks = looks_of(hashes, count=count)
    groups = Groups(exact_groups(hashes), near_groups(hashes, looks))
    sizes = [example.fit.source for example in images.values()]
    lacking = missing_partners(dataset, list(images))
    refused = [it for it in _refused(dataset, scan) if it.path not in images]
    return DatasetReport(
        source=dataset.folder_path,
        num_images=len(images),
        width=_spread(width for width, _ in sizes),
        height=_spread(height for _, height in sizes),
        sizes=tuple(Counter(sizes).most_common(_SHOWN)),
        num_captioned=sum(bool(example.caption) for example in images.values()),
        num_texts=len(texts),
        words=_spread(len(text.split()) for text in texts),
        common=tuple(parts.most_common(_SHOWN)),
        repeated=tuple((text, number) for text, number in texts.most_common(_SHOWN) if number > 1),
        buckets=tuple(Counter(example.bucket for example in examples).most_common()),
        kept=_spread(example.fit.kept_share for example in examples),
        exact=tuple(map(tuple, groups.exact)),
        near=tuple(map(tuple, groups.near)),
        lonely=_lonely(dataset, list(images)),
        findings=(*refused, *lacking, *diagnose(dataset, examples, looks, groups, trigger_word=trigger_word)),
        everywhere=repeated_parts(captions, trigger_word=trigger_word),
    )


def _refused(dataset: DatasetConfig, scan: Scan) -> list[Finding]:
    """The pictures of a dataset with which training does not start."""
    places = [(Path(problem.where), problem.what) for problem in scan.problems]
    return [
        Finding(path, "unreadable", what)
        for path, what in places
        if path.suffix.lower() in IMAGE_EXTENSIONS and path.is_relative_to(dataset.folder_path)
    ]


def _lonely(dataset: DatasetConfig, images: Sequence[Path]) -> dict[Path, tuple[Path, ...]]:
    """The files in the folders of references and so on that match no image by name."""
    stems = {image.stem for image in images}
    folders = {folder: list_images(folder).images for folder in separate_folders(dataset)}
    lonely = {folder: tuple(path for path in paths if path.stem not in stems) for folder, paths in folders.items()}
    return {folder: paths for folder, paths in lonely.items() if paths}


def _spread(numbers: Iterable[float]) -> Spread:
    found = list(numbers)
    return Spread(min(found), statistics.median(found), max(found)) if found else Spread(0, 0, 0)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
