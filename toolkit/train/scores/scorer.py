"""Compares the samples of a round with the training images, their prompts, and the samples of before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from toolkit.data.examples import Example, ViewImage
from toolkit.data.images import open_upright
from toolkit.encode.vision import VisionEncoder, check_encoder
from toolkit.encode.vision_model import VisionModel, load_vision_model
from toolkit.memory.host import release_memory
from toolkit.output.sample_files import sample_names, spread
from toolkit.runtime.stop import StopRequest
from toolkit.train.scores.text_side import embed_texts
from toolkit.train.tasks.sample_info import item_info, read_info
from toolkit.train.tasks.sampling import Sample

MOST_IMAGES = 256  # bounds the time of the first round; the mean of so many hardly depends on which they are


@dataclass(frozen=True)
class Scores:
    """The scores of one round, cosines of embeddings, -1 to 1; None for what cannot be known.

    Attributes:
        similarity: mean over the samples with the trigger word (all, if the job has none) and the training images.
        prompt_match: mean over all samples of that with their prompts, if the encoder reads texts.
        drift: one minus the mean over the samples without the trigger word of that with the pictures of step 0 from
            the same settings.
        num_lost: number of samples without the trigger word that have no such picture.
    """

    similarity: float | None = None
    prompt_match: float | None = None
    drift: float | None = None
    num_lost: int = 0

    def figures(self) -> dict[str, float]:
        """The scores that are known, by name, to six places."""
        found = {"similarity": self.similarity, "prompt_match": self.prompt_match, "drift": self.drift}
        return {name: round(value, 6) for name, value in found.items() if value is not None}


class Scorer:
    """Scores rounds of samples. The encoder is loaded for each round and freed after it.

    Args:
        encoder: the encoder.
        images: the training images.
        folder: folder of the samples.
        trigger_word: the job's trigger word; None if it has none.
        device: where the encoder runs.
        redact: removes secrets from a text, as in what samples say about themselves.
    """

    def __init__(
        self,
        encoder: VisionEncoder,
        images: Sequence[ViewImage],
        *,
        folder: Path,
        trigger_word: str | None,
        device: torch.device,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.encoder = encoder
        self.images = images
        self.folder = folder
        self.trigger_word = trigger_word
        self.device = device
        self.redact = redact
        self._texts: dict[str, Tensor] = {}
        self._training: Tensor | None = None

    def score(self, samples: Sequence[Sample], stop: StopRequest) -> Scores | None:
        """Score the samples of a round; None if a stop was requested meanwhile.

        Raises:
            UserError: the encoder cannot be loaded, or a training image cannot be read.
            OSError: a sample cannot be read.
        """
        if stop.requested:
            return None
        self._read_prompts(samples)
        model = load_vision_model(self.encoder, self.device)
        try:
            return self._score(model, samples, stop)
        finally:
            del model
            release_memory()

    def _score(self, model: VisionModel, samples: Sequence[Sample], stop: StopRequest) -> Scores | None:
        if self._training is None:
            embeds = _embeds(model, map(open_upright, self.images), stop)
            self._training = None if embeds is None else embeds.mean(dim=0)  # [E]
        drawn = _embeds(model, (_open(one.path) for one in samples), stop)  # [N, E]
        names = sample_names(self.folder)
        neutral = [at for at, one in enumerate(samples) if self._is_neutral(one)]
        starts = {at: path for at in neutral if (path := self._start_of(samples[at], names)) is not None}
        before = _embeds(model, map(_open, starts.values()), stop)
        if self._training is None or drawn is None or before is None:
            return None
        learned = [at for at in range(len(samples)) if at not in neutral]
        texts = [self._texts[one.item.prompt] for one in samples if one.item.prompt in self._texts]
        return Scores(
            similarity=float((drawn[learned] @ self._training).mean()) if learned and self.images else None,
            prompt_match=float((drawn * torch.stack(texts)).sum(dim=1).mean()) if texts else None,
            drift=max(0.0, 1 - float((drawn[list(starts)] * before).sum(dim=1).mean())) if starts else None,
            num_lost=len(neutral) - len(starts),
        )

    def _read_prompts(self, samples: Sequence[Sample]) -> None:
        """Embed the prompts that are new, if the encoder reads texts."""
        facts = check_encoder(self.encoder)
        new = {one.item.prompt for one in samples} - set(self._texts)
        if new and facts is not None and facts.num_text_weights:
            self._texts |= embed_texts(self.encoder, sorted(new), self.device)

    def _is_neutral(self, sample: Sample) -> bool:
        return bool(self.trigger_word) and str(self.trigger_word).lower() not in sample.item.prompt.lower()

    def _start_of(self, sample: Sample, names: Mapping[tuple[int, int], str]) -> Path | None:
        """The picture of step 0 that was drawn from the same settings, among `names`; None if there is none."""
        name = names.get((0, sample.index))
        if name is None:
            return None
        with Image.open(self.folder / name) as image:
            told = read_info(image)
        asked = item_info(sample.item, self.redact)
        return self.folder / name if asked == {key: told.get(key) for key in asked} else None


def images_to_compare(examples: Sequence[Example], backgrounds: Sequence[tuple[int, int, int]]) -> list[ViewImage]:
    """The distinct training images, without those for regularisation; of more than `MOST_IMAGES`, some evenly spread.

    Args:
        examples: the images that the run trains on.
        backgrounds: for each dataset, the colour (0..255) behind transparent pixels.
    """
    found = {
        one.content_hash: ViewImage(one.path, one.content_hash, background=backgrounds[one.dataset_index])
        for one in examples
        if not one.is_reg
    }
    images = list(found.values())
    return [images[at] for at in spread(list(range(len(images))), MOST_IMAGES)]


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _embeds(model: VisionModel, pictures: Iterable[Image.Image], stop: StopRequest) -> Tensor | None:
    """The normalised embedding of each picture, [N, E], fp32, on the CPU; None if a stop was requested meanwhile."""
    embeds = model.embeds(takewhile(lambda picture: not stop.requested, pictures))
    return None if stop.requested else embeds
