"""The image files of a dataset, with the captions that a list gives them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.data.captions.texts import CaptionTexts
from toolkit.errors import Problem

METADATA = "metadata.jsonl"
SHARDS = (".tar", ".parquet", ".arrow")
LISTS = (".json", ".jsonl")


@dataclass
class Listing:
    """The files of one dataset.

    Attributes:
        images: image files in a fixed order that does not depend on the file system.
        captions: captions from a list, a tar or a table, by image.
        metadata: captions from a `metadata.jsonl`, by image; used for images without a caption file.
        unused: how often each key of an entry occurs that is not used.
        others: images in formats that are not supported.
        nested: images in subfolders, which are not used.
        problems: mistakes in the dataset that the user must fix.
    """

    images: list[Path] = field(default_factory=list)
    captions: dict[Path, CaptionTexts] = field(default_factory=dict)
    metadata: dict[Path, CaptionTexts] = field(default_factory=dict)
    unused: Counter[str] = field(default_factory=Counter)
    others: list[Path] = field(default_factory=list)
    nested: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, where: Path | str, what: str) -> None:
        """Report a mistake that prevents training."""
        self.problems.append(Problem(str(where), what))
