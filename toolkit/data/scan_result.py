"""The result of a scan: examples, statistics, problems and notices, and a summary for the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.data.batches import count_batches
from toolkit.data.buckets import Size
from toolkit.data.examples import Example
from toolkit.errors import Problem
from toolkit.files import sha256_json

NAMED_FILES = 5  # number of files that a notice lists by name


@dataclass(frozen=True)
class DatasetTable:
    """Statistics of one dataset at one resolution.

    Attributes:
        source: the dataset's folder or JSON file.
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
    """

    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notices: tuple[str, ...]
    tables: tuple[DatasetTable, ...]

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


def describe_scan(scan: Scan, *, batch_size: int, gradient_accumulation: int = 1) -> tuple[str, ...]:
    """Summary lines that `--check` and every start of a run print."""
    lines = [line for table in scan.tables for line in _describe_table(table)]
    regular = [example for example in scan.examples if example.is_reg]
    images = [example for example in scan.examples if not example.is_reg]
    has_turns = bool(regular and images)
    num_batches = count_batches(images or regular, batch_size)
    examples = _count(len(images or regular), "example")
    batches = _count(num_batches, "batch", "batches")
    steps = f"{num_batches * (1 + has_turns) / gradient_accumulation:.4g} steps"
    lines.append(f"one epoch: {examples} in {batches} of up to {batch_size}: {steps}")
    if has_turns:
        lines.append(f"every second step trains on regularisation images, of which there are {len(regular)}")
    return tuple(lines)


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
