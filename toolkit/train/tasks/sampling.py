"""Samples while training: one image per prompt, and a grid that shows the progress at a glance."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from toolkit.config import SampleItem
from toolkit.data.images import Color
from toolkit.data.references import ReferenceRules
from toolkit.draw.artist import RANDOM_SEEDS, Artist, PromptEmbeds, no_extras
from toolkit.draw.sheet import draw_sheet
from toolkit.draw.stopping import StopDrawing, ends_on
from toolkit.draw.strip import write_strip
from toolkit.files import write_bytes
from toolkit.models.base_model import BaseModel
from toolkit.output.sample_files import sample_name, sample_names, spread
from toolkit.parallel.crew import Crew
from toolkit.randomness import Draws
from toolkit.runtime.stop import StopRequest
from toolkit.train.learner import Learner
from toolkit.train.tasks.sample_info import read_info, save_options
from toolkit.train.tasks.twin import Twin

GRID = "grid.jpg"
GRID_COLUMNS = 32  # a JPEG is at most 65,500 pixels wide, and a grid of hundreds of columns is unreadable
_FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


@dataclass(frozen=True)
class SampleSettings:
    """Which samples are drawn, and how.

    Attributes:
        items: samples to draw every `sample_every` steps and at the end.
        first_items: samples to draw before the first step.
        rules: how reference images are resized before the model sees them.
        reference_background: color (red, green, blue; 0..255) behind transparent pixels of reference images.
        format: file format of the samples: `jpg`, `png` or `webp`.
        first_format: file format of the samples before the first step.
        draws: the job's random draws, for samples with a random seed.
        strip: file format of a moving picture of each prompt: `webp`, `gif` or `none`.
        batch_size: the most samples that are drawn in one batch.
        twin: the model to draw with, of which nothing is loaded; None for the one that is trained.
        keeps_twin: whether `twin` stays loaded between rounds.
    """

    items: Sequence[SampleItem]
    first_items: Sequence[SampleItem]
    rules: ReferenceRules
    reference_background: Color = (0, 0, 0)
    format: str = "jpg"
    first_format: str = "jpg"
    draws: Draws = field(default_factory=lambda: Draws(0))
    strip: str = "none"
    batch_size: int = 1
    twin: BaseModel | None = None
    keeps_twin: bool = False


@dataclass(frozen=True)
class Sample:
    """One picture that was drawn.

    Attributes:
        path: `<milliseconds since 1970>__<step, 9 digits>_<index>.<format>`.
        index: index of the prompt.
        item: the sample that was asked for.
        width, height: size in pixels.
    """

    path: Path
    index: int
    item: SampleItem
    width: int
    height: int


class Sampler:
    """Draws the samples of a job with the model as it is now, without disturbing the training."""

    def __init__(
        self,
        learner: Learner,
        embeds: PromptEmbeds,
        settings: SampleSettings,
        *,
        folder: Path,
        describe: Callable[[SampleItem, int], Mapping[str, Any]],
        extras: Callable[[SampleItem], Mapping[str, Tensor]] = no_extras,
    ) -> None:
        """Args not explained in the class:

        describe: what a picture of an item says about itself at a step, see `sample_info`.
        extras: inputs of adapters for an item, without a batch dimension.
        """
        self.learner = learner
        self.settings = settings
        self.folder = folder
        self.describe = describe
        self.twin = None if settings.twin is None else Twin(settings.twin, stays=settings.keeps_twin)
        self.artist = Artist(
            learner.model,
            learner.weights,
            embeds,
            settings.rules,
            background=settings.reference_background,
            extras=extras,
        )

    def draw(
        self,
        step: int,
        stop: StopRequest,
        *,
        first: bool = False,
        drawn: Callable[[Sample], None] = lambda sample: None,
    ) -> None:
        """Draw every sample and rewrite the grid. If there is an average of the weights, the average is used.

        The files are `<milliseconds since 1970>__<step, 9 digits>_<index>.<format>`.

        Args:
            step: number of completed steps.
            stop: a request to stop ends the round within one pass of the transformer.
            first: whether to draw the samples of before the first step.
            drawn: called with each sample once its file is complete.
        """
        settings = self.settings
        items = settings.first_items if first else settings.items
        extension = settings.first_format if first else settings.format
        if not items:
            return
        items = [replace(item, seed=self._seed(item, step, index)) for index, item in enumerate(items)]

        def written(image: Image.Image, index: int) -> None:
            drawn(self._written(image, items[index], index, step, extension))

        with torch.no_grad(), self.learner.averaged():
            if self.twin is None:
                self._round(self.artist, items, stop, written)
            else:
                own = replace(self.artist, model=self.twin.model)
                self.twin.draw(self.learner, lambda copy: self._round(replace(own, weights=copy), items, stop, written))
        self.crew.by_first(self._show_progress)

    @property
    def crew(self) -> Crew:
        """Which ranks draw: each its share of the pictures, or all of them every one. The first rank writes them."""
        return self.learner.sharing.crew

    def _round(
        self,
        artist: Artist,
        items: Sequence[SampleItem],
        stop: StopRequest,
        drawn: Callable[[Image.Image, int], None],
    ) -> None:
        """Draw the pictures of a round; `drawn` gets each with its number."""
        transformer = artist.model.transformer
        assert transformer is not None, "the transformer is loaded while training"
        with (
            ends_on(transformer, lambda: self.crew.any_within(stop.requested)),
            self.learner.sharing.alone(),
            artist.pipeline() as pipeline,
        ):
            share = -(-len(items) // self.crew.size)  # so that no rank waits for another's batch
            groups = artist.groups(items, most=min(self.settings.batch_size, share))
            for start in range(0, len(groups), self.crew.size):
                indices = [index for group in groups[start : start + self.crew.size] for index in group]
                images = self._pictures(artist, pipeline, [[items[i] for i in group] for group in groups], start)
                for index, image in zip(indices, images, strict=True):
                    drawn(image, index)

    def _pictures(
        self, artist: Artist, pipeline: Any, groups: Sequence[Sequence[SampleItem]], start: int
    ) -> list[Image.Image]:
        """The pictures of the groups from number `start` on that the ranks draw at the same time.

        Raises:
            StopDrawing: a stop was requested on any rank.
        """
        number, images, is_stopped = start + self.crew.position, list[Image.Image](), False
        try:
            if number < len(groups):
                images = artist.draw(pipeline, groups[number])
        except StopDrawing:
            is_stopped = True
        if self.crew.any(is_stopped):
            raise StopDrawing
        if self.crew.size == 1:
            return images
        return [_from_text(text) for found in self.crew.gather(_as_text(images)) for text in found.split()]

    def _seed(self, item: SampleItem, step: int, index: int) -> int:
        """The seed of a sample. A random one is another in each round, but the same on all ranks and after a resume."""
        return item.seed if item.seed >= 0 else self.settings.draws.number("sample seed", step, index) % RANDOM_SEEDS

    def _show_progress(self) -> None:
        """Rewrite the grid, and the strip of each prompt if the job asks for strips."""
        write_grid(self.folder)
        if self.settings.strip != "none":
            write_strips(self.folder, self.settings.strip)

    def _written(self, image: Image.Image, item: SampleItem, index: int, step: int, extension: str) -> Sample:
        now_ms = time.time_ns() // 1_000_000
        path = self.folder / sample_name(time_ms=now_ms, step=step, index=index, extension=extension)
        self.crew.by_first(lambda: save_image(image, path, self.describe(item, step)))
        return Sample(path, index, item, image.width, image.height)


def _as_text(images: Sequence[Image.Image]) -> str:
    """Pictures without any loss, each as a word."""
    words = []
    for image in images:
        content = io.BytesIO()
        image.save(content, format="PNG", compress_level=1)
        words.append(base64.b64encode(content.getvalue()).decode("ascii"))
    return " ".join(words)


def _from_text(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image


def save_image(image: Image.Image, path: Path, info: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Write an image file at high quality, completely or not at all. `info` is what it says about itself."""
    content, kind = io.BytesIO(), _FORMATS[path.suffix]
    image.save(content, format=kind, quality=95, **save_options(kind, info))
    write_bytes(path, content.getvalue())


def write_grid(folder: Path) -> Path | None:
    """Arrange a folder's samples in a grid: a row per prompt, a column per step, at most `GRID_COLUMNS` columns."""
    latest = sample_names(folder)
    if not latest:
        return None
    rows = sorted({index for _, index in latest})
    columns = spread(sorted({step for step, _ in latest}), GRID_COLUMNS)
    shown = {
        (x, y): folder / latest[step, index]
        for x, step in enumerate(columns)
        for y, index in enumerate(rows)
        if (step, index) in latest
    }
    names = [_prompt_of(folder / latest[max(step for step, own in latest if own == index), index]) for index in rows]
    save_image(draw_sheet([f"step {step}" for step in columns], names, shown), folder / GRID)
    return folder / GRID


def write_strips(folder: Path, extension: str) -> None:
    """Write `strip_<index>` for each prompt with samples of two steps or more, at most `GRID_COLUMNS` of them."""
    latest = sample_names(folder)
    for index in sorted({index for _, index in latest}):
        steps = spread(sorted(step for step, own in latest if own == index), GRID_COLUMNS)
        if len(steps) > 1:
            pictures = [folder / latest[step, index] for step in steps]
            write_strip(folder / f"strip_{index}.{extension}", [f"step {step}" for step in steps], pictures)


def _prompt_of(path: Path) -> str:
    """The prompt that a sample says it was drawn from; empty if it says nothing."""
    with Image.open(path) as image:
        return str(read_info(image).get("prompt", ""))
