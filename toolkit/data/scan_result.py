"""The result of a scan: examples, statistics, problems and notices, and a summary for the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from toolkit.data.batches import Stream, count_batches, divide
from toolkit.data.buckets import Size
from toolkit.data.examples import Example
from toolkit.errors import Problem
from toolkit.files import sha256_json

NAMED_FILES = 5  # number of files that a notice lists by name


@dataclass(frozen=True)
class DatasetTable:
    """Statistics of one dataset at one resolution.

    Attributes:
        dataset_index: index of the dataset in `datasets`.
        source: the dataset's folder or file.
        resolution: side of a square with as many pixels as a bucket may have.
        num_images: number of readable images.
        num_captions: number of images with a caption of their own.
        uses_captions: whether any image is trained with its caption.
        num_skipped: number of images left out because they cannot be read.
        num_copies: number of examples per image: its repeats, times 2 for each kind of flip.
        num_references: largest number of reference images that an image has.
        is_reg: whether these are regularisation images.
        buckets: number of examples per (width, height), the fullest bucket first.
    """

    dataset_index: int
    source: Path
    resolution: int
    num_images: int
    num_captions: int
    uses_captions: bool
    num_skipped: int
    num_copies: int
    num_references: int
    is_reg: bool
    buckets: dict[Size, int]


@dataclass(frozen=True)
class Scan:
    """The scanned datasets of a job.

    Attributes:
        examples: all examples in a fixed order; only complete if there are no problems.
        problems: mistakes that prevent training.
        notices: facts that the user should know, one line each.
        tables: statistics of each dataset at each resolution.
        held_out: an example of each image that is only scored, and not trained on.
    """

    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notices: tuple[str, ...]
    tables: tuple[DatasetTable, ...]
    held_out: tuple[Example, ...] = ()

    def fingerprint(self, sources: Sequence[Path]) -> dict[str, str]:
        """A short hash of every image together with its caption and references, by the image's name in the dataset.

        Copies of an image share an entry. A resumed run compares them to report what has changed.

        Args:
            sources: the folder or JSON file of each dataset.
        """
        found: dict[str, str] = {}
        folders = [source if source.is_dir() else source.parent for source in sources]
        for example in self.examples:
            others = (*example.references, *(control for control in example.controls if control is not None))
            content: list[object] = [
                example.content_hash,
                example.variants or example.caption,
                *(picture.content_hash for picture in others),
            ]
            content += [] if example.view is None else [example.view.content_hash]
            content += [] if example.mask_file is None else [example.mask_file.content_hash]
            content += [] if example.counterpart is None else [example.counterpart.content_hash]
            found[_name(example, folders)] = sha256_json(content)[:16]
        return found


def _name(example: Example, folders: Sequence[Path]) -> str:
    path = example.path
    try:
        name = path.relative_to(folders[example.dataset_index]).as_posix()
    except ValueError:  # listed in a JSON file, and elsewhere
        name = path.as_posix()
    return name if len(folders) == 1 else f"{example.dataset_index}:{name}"


@dataclass
class Findings:
    """Collects problems and notices during a scan."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def problem(self, where: Path | str, what: str) -> None:
        """Report a mistake that prevents training."""
        self.problems.append(Problem(str(where), what))

    def notice(self, source: Path, what: str, files: Sequence[Path | str]) -> None:
        """Report something worth knowing about some files of a dataset; does nothing if there are none."""
        if not files:
            return
        named = ", ".join(file.name if isinstance(file, Path) else file for file in files[:NAMED_FILES])
        more = f" and {len(files) - NAMED_FILES} more" if len(files) > NAMED_FILES else ""
        count = "1 image" if len(files) == 1 else f"{len(files)} images"
        self.notices.append(f"{source}: {count} {what}: {named}{more}")

    def remark(self, source: Path, what: str, items: Sequence[str] = ()) -> None:
        """Report something worth knowing about a dataset; `items` are the first things it is about."""
        more = f" and {len(items) - NAMED_FILES} more" if len(items) > NAMED_FILES else ""
        self.notices.append(f"{source}: {what}" + (f": {', '.join(items[:NAMED_FILES])}{more}" if items else ""))


def describe_scan(
    scan: Scan,
    *,
    batch_size: int,
    gradient_accumulation: int = 1,
    shares: Mapping[int, float] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Summary lines that `--check` and every start of a run print.

    Args:
        scan: the scanned datasets.
        batch_size: number of examples per batch, where a dataset has no number of its own.
        gradient_accumulation: number of batches of all ranks in a step.
        shares: index of a dataset -> its share of the steps.
    """
    lines = [line for table in scan.tables for line in _describe_table(table)]
    streams = divide(scan.examples, shares)
    for number, stream in enumerate(streams):
        examples = [scan.examples[index] for index in stream.indices]
        num_batches = count_batches(examples, batch_size)
        steps = f"{num_batches / float(stream.share) / gradient_accumulation:.4g} steps"
        if number > 0 and stream.dataset_index is None:
            half = (
                "every second step trains"
                if stream.share == Fraction(1, 2)
                else f"{float(stream.share):.1%} of the steps train"
            )
            lines.append(f"{half} on regularisation images, of which there are {len(examples)}")
            continue
        what = "one epoch" if stream.dataset_index is None else _of_dataset(scan, stream)
        sizes = {example.batch_size or batch_size for example in examples}
        lines.append(
            f"{what}: {_count(len(examples), 'example')} in {_count(num_batches, 'batch', 'batches')} of up to "
            f"{max(sizes)}: {steps}"
        )
    return tuple(lines)


def _of_dataset(scan: Scan, stream: Stream) -> str:
    source = scan.tables[0].source
    for table in scan.tables:
        source = table.source if table.dataset_index == stream.dataset_index else source
    return f"{float(stream.share):.1%} of the steps train on {source}; one pass over it"


def _describe_table(table: DatasetTable) -> list[str]:
    parts = [_count(table.num_images, "image"), _captions(table)]
    if table.num_skipped:
        parts.append(f"{table.num_skipped} unreadable")
    if table.num_copies > 1:
        parts.append(f"{table.num_copies} copies of each")
    if table.num_references:
        parts.append(f"up to {_count(table.num_references, 'reference')} each")
    if table.is_reg:
        parts.append("regularisation")
    title = f"{table.source} at {table.resolution}: {', '.join(parts)}"
    return [title, *(f"  {width:>5} x {height:<5} {count:>6}" for (width, height), count in table.buckets.items())]


def _captions(table: DatasetTable) -> str:
    found, missing = _count(table.num_captions, "caption"), table.num_images - table.num_captions
    if table.uses_captions:
        return f"{found} found" + (f", {missing} missing" if missing else "")
    return f"CAPTIONS NOT USED ({found} found)" if table.num_captions else "captions not used"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
