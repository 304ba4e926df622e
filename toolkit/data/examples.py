"""One training example: its file, how that is turned into pixels, and its caption."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from toolkit.data.buckets import Fit, Size

Layout = tuple[Size, ...]


@dataclass(frozen=True)
class Reference:
    """One reference image of an example, which the model sees in addition to the noise: the image before an edit.

    Attributes:
        path: path of the image file.
        content_hash: sha256 of the file's bytes, hex.
        fit: how the image is resized and cropped to the size that the model sees.
        flip_x, flip_y: whether the image is mirrored; always as its example, or the edit would seem to mirror images.
        background: red, green, blue (0..255) shown behind transparent pixels.
        is_inverted: whether opaque and transparent pixels are swapped.
    """

    path: Path
    content_hash: str
    fit: Fit
    flip_x: bool
    flip_y: bool
    background: tuple[int, int, int]
    is_inverted: bool = False


@dataclass(frozen=True)
class ViewImage:
    """An image that a vision encoder sees, for an adapter: as a whole, whatever its size.

    Attributes:
        path: path of the image file.
        content_hash: sha256 of the file's bytes, hex.
        flip_x, flip_y: whether the image is mirrored; always as its example.
        background: red, green, blue (0..255) shown behind transparent pixels.
    """

    path: Path
    content_hash: str
    flip_x: bool = False
    flip_y: bool = False
    background: tuple[int, int, int] = (255, 255, 255)


@dataclass(frozen=True)
class MaskFile:
    """The mask of an image: how much each place counts in the loss.

    Attributes:
        path: the file of the mask; the image itself if its transparency is the mask.
        content_hash: sha256 of the file's bytes, hex.
        is_alpha: whether the mask is how opaque the picture is, not how bright.
        is_inverted: whether dark or transparent places count.
        floor: how much the others count, 0 to 1.
    """

    path: Path
    content_hash: str
    is_alpha: bool = False
    is_inverted: bool = False
    floor: float = 0.0


@dataclass(frozen=True)
class LossMask:
    """A mask as one example needs it.

    Attributes:
        file: the mask.
        fit: how the example's image is resized and cropped, and so its mask.
        flip_x, flip_y: whether both are mirrored.
    """

    file: MaskFile
    fit: Fit
    flip_x: bool
    flip_y: bool


@dataclass(frozen=True)
class Colors:
    """How the colours of an image change.

    Attributes:
        brightness, contrast, saturation: factors; 1 changes nothing.
        hue: how far the hue moves, as a share of the colour circle.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


@dataclass(frozen=True)
class Example:
    """Everything that training needs to know about one image at one size. Repeats and flips are separate examples.

    Attributes:
        path: path of the image file.
        content_hash: sha256 of the file's bytes, hex; does not depend on the file name.
        caption: the caption with the trigger word filled in and line breaks as written; the first if there are several.
        dropped_caption: replaces the caption when it is dropped: the trigger word, or nothing for regularisation
            images, which must not learn the trigger word.
        caption_dropout_rate: probability of dropping the caption, 0 to 1.
        fit: bucket of the image, and how it is resized and cropped to it.
        random_crop: whether the crop is drawn again each time instead of taken from `fit.crop`.
        flip_x, flip_y: whether the image is mirrored left to right or top to bottom, after the crop.
        loss_weight: factor of this example's loss.
        is_reg: whether this is a regularisation image.
        dataset_index: index of the example's dataset in `datasets`.
        references: the reference images, in order.
        reference_dropout_rate: probability of training a batch of these examples without references, 0 to 1.
        view: the image that adapters see through a vision encoder; None if there is none.
        variants: all texts of which one is drawn at each use, each as often as its share; empty: `caption` alone.
        random_scale: whether the crop is taken at each use from another size of the image.
        jitter: the largest changes of its colours, each as the difference from no change; None changes nothing.
        colors: how its colours are changed; see `colored_by`.
        batch_size: number of examples in the dataset's batches; None: the job's batch size.
        network_weight: strength of the network while it is trained.
        controls: the control pictures, in order, each at the size of the image; None for one that is missing.
        is_prior: whether its target is the base model's prediction.
        mask_file: which places of the image count in the loss; None if all count alike.
        counterpart: the other image of a pair, at the same size; None if there is none.
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
    view: ViewImage | None = None
    controls: tuple[Reference | None, ...] = ()
    variants: tuple[str, ...] = ()
    is_prior: bool = False
    mask_file: MaskFile | None = None
    random_scale: bool = False
    jitter: Colors | None = None
    colors: Colors = Colors()
    batch_size: int | None = None
    network_weight: float = 1.0
    counterpart: Reference | None = None

    @property
    def layout(self) -> Layout:
        """(width, height) of the training image, then of each reference. All examples of a batch share one layout."""
        return (self.bucket, *(reference.fit.bucket for reference in self.references))

    @property
    def bucket(self) -> Size:
        """(width, height) of the training image."""
        return self.fit.bucket

    @property
    def mask(self) -> LossMask | None:
        """The mask with the crop and flip of the image."""
        return None if self.mask_file is None else LossMask(self.mask_file, self.fit, self.flip_x, self.flip_y)

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that the example may be trained with: its captions, then the one that replaces a dropped one."""
        return tuple(dict.fromkeys((*(self.variants or (self.caption,)), self.dropped_caption)))

    def caption_by(self, random: Random) -> str:
        """The caption drawn from `random`, or the only one."""
        return self.variants[int(random.random() * len(self.variants))] if self.variants else self.caption

    @property
    def is_drawn(self) -> bool:
        """Whether its pixels are other ones at each use, so that they cannot be encoded once."""
        return self.random_crop or self.random_scale or self.jitter is not None

    def cropped_by(self, random: Random) -> Example:
        """The example with its crop drawn from `random`, or the example itself if its dataset wants no random crops."""
        if not self.random_crop and not self.random_scale:
            return self
        across, down, size = random.random(), random.random(), random.random()
        fit = self.fit.enlarged_by(size) if self.random_scale else self.fit
        return replace(self, fit=fit.cropped_at(across, down) if self.random_crop else fit.cropped_at(0.5, 0.5))

    def colored_by(self, random: Random) -> Example:
        """The example with the change of its colours drawn from `random`, or itself if its colours stay."""
        if self.jitter is None:
            return self
        brightness, contrast, saturation, hue = (2 * random.random() - 1 for _ in range(4))  # -1..1
        colors = Colors(
            1 + brightness * self.jitter.brightness,
            1 + contrast * self.jitter.contrast,
            1 + saturation * self.jitter.saturation,
            hue * self.jitter.hue,
        )
        return replace(self, colors=colors)
