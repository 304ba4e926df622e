"""What validation scores: which images and prompts, at which noise levels, and what that needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Literal, TypeVar

from toolkit.config import TrainingProcessConfig
from toolkit.data.examples import Example
from toolkit.data.needs import dataset_needs
from toolkit.data.scan_result import Scan
from toolkit.data.validation.held_out import first_of_each, fixed
from toolkit.errors import Problem
from toolkit.files import sha256_json
from toolkit.plan.needs import Needs
from toolkit.units import duration

T = TypeVar("T")
Kind = Literal["held_out", "train", "mirrored", "preserved"]
KINDS: Mapping[Kind, str] = {
    "held_out": "held-out images",
    "train": "training images",
    "mirrored": "mirrored copies of training images",
    "preserved": "prompts without the trigger word",
}
"""Each kind of subject, in words for the user."""
_FLIPPED = (
    "overfit: `flip_x` trains on the mirrored copies of the images, so there is nothing to compare them with. Set "
    "`validation_split`, or remove `overfit`"
)


@dataclass(frozen=True)
class Subject:
    """One row of the grid.

    Attributes:
        kind: the question that the subject answers.
        example: the subject's image; for a prompt without the trigger word, the image that gives size and references.
        text: the words it is predicted with.
    """

    kind: Kind
    example: Example
    text: str


@dataclass(frozen=True)
class Grid:
    """Subjects x noise levels. It stays the same throughout a run, so that two rounds differ only in the weights.

    Attributes:
        subjects: the rows.
        sigmas: the noise levels of images; prompts are scored at as many, which the model's sampler chooses.
        together: number of levels that go through the model in one pass.
        every: number of steps between two rounds.
    """

    subjects: tuple[Subject, ...]
    sigmas: tuple[float, ...]
    together: int
    every: int

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of subjects there are."""
        return tuple(kind for kind in KINDS if any(subject.kind == kind for subject in self.subjects))

    @property
    def unseen(self) -> Kind | None:
        """The images that are not trained on, whose change decides which round is the best; None if there are none."""
        return next((kind for kind in ("held_out", "mirrored") if kind in self.kinds), None)

    @property
    def passes(self) -> int:
        """Forward passes of a round."""
        return len(self.subjects) * ceil(len(self.sigmas) / self.together)

    @property
    def base_passes(self) -> int:
        """Forward passes that score the base model, and first draw a picture for each preserved prompt."""
        return self.passes + len(self.sigmas) * sum(subject.kind == "preserved" for subject in self.subjects)

    @property
    def round_share(self) -> float:
        """The time of a round, as a share of the time for scoring the base model."""
        pixels = {kind: sum(_pixels(one) for one in self.subjects if one.kind == kind) for kind in self.kinds}
        whole = sum(pixels.values())
        return whole / (whole + pixels.get("preserved", 0))

    @property
    def tracked_px(self) -> int:
        """Pixels whose latents are kept: the points of the base model's path, and its predictions there."""
        sizes = [one.example.bucket for one in self.subjects if one.kind == "preserved"]
        return sum(2 * len(self.sigmas) * width * height for width, height in sizes)

    def num_rounds(self, steps: int) -> int:
        """Number of rounds in a run of so many steps: before the first, every `every` steps, and at the end."""
        return 2 + (steps - 1) // self.every

    @property
    def key(self) -> str:
        """A hash of all that decides what is scored: only rounds with equal keys can be compared."""
        rows = [
            [one.kind, one.text, one.example.content_hash, str(one.example.fit), one.example.flip_x, one.example.flip_y]
            for one in self.subjects
        ]
        return sha256_json([rows, self.sigmas, self.together])

    def round_s(self, pass_s: float) -> float:
        """Seconds that a round takes, from the seconds of one of its passes."""
        return pass_s * self.passes

    def as_json(self, steps: int, pass_s: float | None = None) -> dict[str, float | None]:
        """How many forward passes a round takes, how many the base model, and the rounds of so many steps.

        Args:
            steps: number of steps of the run.
            pass_s: seconds that a pass took when it was measured last; None before that.
        """
        round_s = None if pass_s is None else round(self.round_s(pass_s), 2)
        counts = {"passes": self.passes, "base_passes": self.base_passes, "rounds": self.num_rounds(steps)}
        return {**counts, "round_s": round_s}

    def describe(self, steps: int, pass_s: float | None = None) -> list[str]:
        """Lines for the printed plan. See `as_json`."""
        counts = {kind: sum(one.kind == kind for one in self.subjects) for kind in self.kinds}
        what = ", ".join(f"{count} {KINDS[kind]}" for kind, count in counts.items())
        rounds = self.num_rounds(steps)
        return [
            f"validation: {what}, at {len(self.sigmas)} noise levels: {self.passes} forward passes a round, {rounds} "
            f"rounds (every {self.every} steps), and {self.base_passes} for the base model{self._time(rounds, pass_s)}"
        ]

    def _time(self, rounds: int, pass_s: float | None) -> str:
        if pass_s is None:
            return "; the time of a round is known once the base model has been scored"
        round_s = self.round_s(pass_s)
        return f"; a round takes {duration(round_s)} as measured here, all of them {duration(rounds * round_s)}"


def grid_of(config: TrainingProcessConfig, scan: Scan) -> Grid | None:
    """The grid of a run; None if its job asks for no validation, or there is nothing to score."""
    validation = config.validation
    if validation is None:
        return None
    most = validation.max_images
    trained = [one for one in first_of_each(scan.examples) if not one.is_reg and not one.is_prior]
    chosen = [fixed(example) for example in _spread(trained, most)]
    held_out = _spread(scan.held_out, most) if validation.scores_images else []
    subjects = [Subject("held_out", one, _text(config, one)) for one in held_out]
    if validation.asks("overfit"):
        others = [] if subjects else _mirrored(chosen, scan.examples)
        if subjects or others:
            subjects += [Subject("train", example, _text(config, example)) for example in chosen]
        subjects += [Subject("mirrored", example, _text(config, example)) for example in others]
    if validation.asks("preservation") and chosen:
        texts = validation.preservation_prompts or _neutral(config, trained)
        subjects += [
            Subject("preserved", chosen[index % len(chosen)], text) for index, text in enumerate(_spread(texts, most))
        ]
    together = min(config.train.batch_size, len(validation.validation_sigmas))
    if not subjects:
        return None
    return Grid(tuple(subjects), validation.validation_sigmas, together, validation.validate_every_n_steps)


def grid_problems(config: TrainingProcessConfig, scan: Scan, grid: Grid | None) -> list[Problem]:
    """Questions of the job that its images cannot answer."""
    validation = config.validation
    if validation is None or scan.problems or not scan.examples:
        return []
    kinds = () if grid is None else grid.kinds
    found = []
    if validation.insists_on("overfit") and "train" not in kinds:
        found.append(Problem("train.validation_config.questions", _FLIPPED))
    trigger = config.trigger_word
    if trigger and any(trigger in prompt for prompt in validation.preservation_prompts):
        what = f'the trigger word "{trigger}" is in one of them, so the model would be kept from learning it. Remove it'
        found.append(Problem("train.validation_config.preservation_prompts", what))
    if config.save.save_best and (grid is None or grid.unseen is None):
        what = "there are no images to judge rounds by: ask for `held_out` or `overfit`"
        found.append(Problem("save.save_best", what))
    return found


def validation_needs(config: TrainingProcessConfig, grid: Grid | None, output_folder: Path) -> Needs:
    """What the subjects of a grid need; encoded like the training images, through the same caches."""
    if grid is None:
        return Needs()
    needs = dataset_needs(config, tuple(dict.fromkeys(one.example for one in grid.subjects)), output_folder)
    texts = {subject.text: needs.texts.get(subject.text) for subject in grid.subjects}
    return Needs(
        texts=texts,
        captions=frozenset(texts),
        pictures=needs.pictures,
        views=needs.views,
        validated=needs.trained,
        validated_together=grid.together,
        tracked_px=grid.tracked_px,
    )


def _pixels(subject: Subject) -> int:
    return sum(width * height for width, height in subject.example.layout)


def _text(config: TrainingProcessConfig, example: Example) -> str:
    is_captioned = config.uses_captions and config.datasets[example.dataset_index].caption_dropout_rate < 1
    return example.caption if is_captioned else example.dropped_caption


def _neutral(config: TrainingProcessConfig, examples: Sequence[Example]) -> tuple[str, ...]:
    """The captions without the trigger word, or with the class in its place; without any, the empty prompt."""
    found = {}
    for example in examples:
        dataset = config.datasets[example.dataset_index]
        trigger, text = dataset.trigger_word or config.trigger_word, _text(config, example)
        own = dataset.diff_output_preservation_class
        kind = config.train.diff_output_preservation_class if own is None else own
        if trigger and trigger in text:
            found[" ".join(text.replace(trigger, kind).split())] = True
    return tuple(found) or ("",)


def _mirrored(chosen: Sequence[Example], trained: Sequence[Example]) -> list[Example]:
    """The chosen examples mirrored left to right, as far as no such copy is trained on."""
    seen = {(one.content_hash, one.flip_x, one.flip_y) for one in trained}
    copies = [_flipped(example) for example in chosen]
    return [one for one in copies if (one.content_hash, one.flip_x, one.flip_y) not in seen]


def _flipped(example: Example) -> Example:
    return replace(
        example,
        flip_x=not example.flip_x,
        references=tuple(replace(one, flip_x=not one.flip_x) for one in example.references),
        controls=tuple(None if one is None else replace(one, flip_x=not one.flip_x) for one in example.controls),
        view=None if example.view is None else replace(example.view, flip_x=not example.view.flip_x),
    )


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly spread."""
    count = min(most, len(items))
    return [items[index * len(items) // count] for index in range(count)]
