"""What a scan finds: the examples, their figures, what is wrong and what is worth knowing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.data.buckets import Size
from toolkit.data.examples import Example
from toolkit.errors import Problem
from toolkit.files import sha256_json

NAMED_FILES = 5  # how many files a notice names


@dataclass(frozen=True)
class DatasetTable:
    """The figures of one dataset at one resolution.

    Attributes:
        source: the dataset's folder or JSON file.
        resolution: side of the square that has the pixel budget.
        num_images: readable images.
        num_captions: images with a caption of their own.
        num_skipped: images left out because they cannot be read.
        num_copies: examples made of each image: its repeats, times 2 for each kind of flip.
        num_references: the most reference images that one image has.
        is_reg: regularisation images.
        buckets: examples per (width, height), the fullest bucket first.
    """

    source: Path
    resolution: int
    num_images: int
    num_captions: int
    num_skipped: int
    num_copies: int
    num_references: int
    is_reg: bool
    buckets: dict[Size, int]


@dataclass(frozen=True)
class Scan:
    """What the datasets of a job hold.

    Attributes:
        examples: in a fixed order; complete only when there are no problems.
        problems: what forbids training.
        notices: what the user should know, one line each.
        tables: one per dataset and resolution.
    """

    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notices: tuple[str, ...]
    tables: tuple[DatasetTable, ...]

    def fingerprint(self, sources: Sequence[Path]) -> dict[str, str]:
        """A short hash of every image with its caption and references, by its name in the dataset.

        Copies of an image share an entry. A later start tells from it which files have changed.

        Args:
            sources: folder or JSON file of each dataset.
        """
        found: dict[str, str] = {}
        for example in self.examples:
            content = [example.content_hash, example.caption, *(picture.content_hash for picture in example.references)]
            found[_name(example, sources)] = sha256_json(content)[:16]
        return found


def _name(example: Example, sources: Sequence[Path]) -> str:
    source = sources[example.dataset_index]
    folder = source if source.is_dir() else source.parent
    path = example.path
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
    return name if len(sources) == 1 else f"{example.dataset_index}:{name}"


@dataclass
class Findings:
    """Problems and notices while a scan gathers them."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def problem(self, where: Path | str, what: str) -> None:
        """Something that forbids training."""
        self.problems.append(Problem(str(where), what))

    def notice(self, source: Path, what: str, files: Sequence[Path | str]) -> None:
        """Something worth knowing of a few files of a dataset; nothing is said of none."""
        if not files:
            return
        named = ", ".join(file.name if isinstance(file, Path) else file for file in files[:NAMED_FILES])
        more = f" and {len(files) - NAMED_FILES} more" if len(files) > NAMED_FILES else ""
        count = "1 image" if len(files) == 1 else f"{len(files)} images"
        self.notices.append(f"{source}: {count} {what}: {named}{more}")
