"""One training example: which file, how it becomes pixels, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from toolkit.data.buckets import Fit, Size

Layout = tuple[Size, ...]


@dataclass(frozen=True)
class Reference:
    """One reference image of an example: what the model sees beside the noise, such as the picture before an edit.

    Attributes:
        path: the image file.
        content_hash: sha256 of the file's bytes, hex.
        fit: the size it is seen at, resizing and crop.
        flip_x, flip_y: mirrored as its example is, or an edit would seem to mirror.
        background: red, green, blue (0..255) behind transparent pixels.
    """

    path: Path
    content_hash: str
    fit: Fit
    flip_x: bool
    flip_y: bool
    background: tuple[int, int, int]


@dataclass(frozen=True)
class Example:
    """Everything training needs to know of one image at one size. Repeats and flipped copies are examples of their own.

    Attributes:
        path: the image file.
        content_hash: sha256 of the file's bytes, hex; the same pixels under another name have the same hash.
        caption: trigger word already in; line breaks as written.
        dropped_caption: what stands in for the caption when it is dropped: the trigger word; nothing for
            regularisation images, which must not learn it.
        caption_dropout_rate: how often to drop it, 0 to 1.
        fit: bucket, resizing and crop.
        random_crop: crop anew each time instead of at `fit.crop`.
        flip_x, flip_y: mirrored left to right, top to bottom (after the crop).
        loss_weight: factor of this example's loss.
        is_reg: one of the regularisation images.
        dataset_index: place of its dataset in `datasets`.
        references: its reference images, in order.
        reference_dropout_rate: how often a batch of such examples is trained without its references, 0 to 1.
    """

    path: Path
    content_hash: str
    caption: str
    dropped_caption: str
    caption_dropout_rate: float
    fit: Fit
    random_crop: bool
    flip_x: bool
    flip_y: bool
    loss_weight: float
    is_reg: bool
    dataset_index: int
    references: tuple[Reference, ...] = ()
    reference_dropout_rate: float = 0.0

    @property
    def layout(self) -> Layout:
        """(width, height) of the pixels it is trained on, then those of each reference: one batch, one layout."""
        return (self.bucket, *(reference.fit.bucket for reference in self.references))

    @property
    def bucket(self) -> Size:
        """(width, height) of the pixels it is trained on."""
        return self.fit.bucket

    def cropped_by(self, random: Random) -> Example:
        """The example with its crop drawn from `random` if its dataset asks for random crops, else itself."""
        if not self.random_crop:
            return self
        return replace(self, fit=self.fit.cropped_at(random.random(), random.random()))
