"""Scores a grid with the model as it is: errors on images, and distances to the base model on prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from toolkit.objectives.batch import Batch
from toolkit.objectives.losses import masked_mean
from toolkit.objectives.path import mix
from toolkit.parallel.crew import Crew
from toolkit.runtime.stop import StopRequest
from toolkit.train.feeder import Feeder
from toolkit.train.learner import Learner
from toolkit.train.prediction import Prediction
from toolkit.train.validation.grid import Grid, Subject
from toolkit.train.validation.history import Scores
from toolkit.weights.tensor_files import read_tensors, write_tensors

T = TypeVar("T")
_NOISE = "validation noise"


@dataclass(frozen=True, eq=False)
class Track:
    """The points along the base model's path while it draws a picture, and its predictions there.

    Attributes:
        points: noisy latents, [L, C, h, w], fp32, on the CPU.
        sigmas: the noise levels to score, [L], fp32.
        velocity: the base model's predictions, [L, C, h, w], fp32.
    """

    points: Tensor
    sigmas: Tensor
    velocity: Tensor


class Scorer:
    """Scores all subjects. It has its own random draws, and leaves model, optimizer and averages as they were.

    The base model is the model without what is trained. A full fine-tune cannot leave it out: its base is the model
    before the first step.

    Args:
        grid: the subjects and noise levels to score.
        feeder: makes the inputs of the model.
        learner: the model and its trained weights. If there is an average of them, the average is scored.
        has_base: whether the model can be had without what is trained.
        store: file for the tracks of a base model that cannot be had again.

    Attributes:
        tracks: for each subject without an image of its own, what the base model did; by its number in the grid.
    """

    def __init__(self, grid: Grid, feeder: Feeder, learner: Learner, *, has_base: bool, store: Path) -> None:
        self.grid = grid
        self.feeder = feeder
        self.learner = learner
        self.has_base = has_base
        self.store = store
        self.tracks: dict[int, Track] = {}

    @property
    def crew(self) -> Crew:
        """Which ranks score: each its share of the subjects, or all of them every subject."""
        crew = self.learner.sharing.crew
        return crew if self.has_base else replace(crew, is_joint=True)  # the base of each is needed on all ranks later

    def base(self, stop: StopRequest) -> Scores | None:
        """The scores of the base model; also makes its tracks, which later rounds need.

        Args:
            stop: a request to stop ends it within one subject, and the answer is None.
        """
        scores = self._score(stop, is_base=True)
        if scores is not None and not self.has_base and self.tracks:
            self.crew.by_first(self._write_tracks)
        return scores

    def restore(self, stop: StopRequest) -> bool | None:
        """Make the tracks of the base model again, whose scores are known.

        Returns:
            Whether there are any tracks now; None if a stop was requested.
        """
        if self.has_base:
            return None if self._score(stop, is_base=True, skips_images=True) is None else True
        self.tracks = self._read_tracks()
        wanted = {number for number, subject in enumerate(self.grid.subjects) if subject.kind == "preserved"}
        return not self.crew.any(self.tracks.keys() != wanted)  # machines may have drives of their own

    def score(self, stop: StopRequest) -> Scores | None:
        """The scores of the weights that users would get now; None if a stop was requested.

        Of an image: the mean squared error of the predicted velocity. Of a prompt without the trigger word: the mean
        squared distance of the prediction to that of the base model, as a share of the latter's mean square.
        """
        return self._score(stop, is_base=False)

    def _score(self, stop: StopRequest, *, is_base: bool, skips_images: bool = False) -> Scores | None:
        crew, subjects, rows = self.crew, self.grid.subjects, []
        with torch.no_grad(), ExitStack() as stack:
            if not (is_base and self.has_base):
                stack.enter_context(self.learner.averaged())
            stack.enter_context(self.learner.sharing.alone())
            for start in range(0, len(subjects), crew.size):
                if crew.any(stop.requested):
                    return None
                number, row = start + crew.position, list[float]()
                if number < len(subjects) and not (skips_images and subjects[number].kind != "preserved"):
                    row = self._row(number, is_base=is_base)
                rows += [json.loads(text) for text in crew.gather(json.dumps(row))]
        if crew.size == 1:  # all go by the first one's figures, or they might draw different conclusions
            rows = json.loads(crew.ranks.gather(json.dumps(rows))[0])
        return rows[: len(subjects)]

    def _row(self, number: int, *, is_base: bool) -> list[float]:
        subject, network = self.grid.subjects[number], 0.0 if is_base and self.has_base else 1.0
        if subject.kind != "preserved":
            return torch.cat(list(self._errors(subject, network))).tolist()
        if is_base:
            self.tracks[number] = self._track(subject, network)
            return [0.0] * len(self.grid.sigmas)
        track = self.tracks[number]
        velocity = self._along(subject, track.points, track.sigmas, network)
        size = track.velocity.square().mean(dim=(1, 2, 3))
        return ((velocity - track.velocity).square().mean(dim=(1, 2, 3)) / size).tolist()

    def _errors(self, subject: Subject, network: float) -> Iterator[Tensor]:
        """The errors at the noise levels of the grid, [n] of each pass."""
        device = self.learner.model.device
        for levels in self._parts(self.grid.sigmas):
            batch, predict = self._input(subject, len(levels))
            noise = torch.stack([self._noise(subject, batch, f"{sigma!r}") for sigma in levels]).to(device)
            sigma = torch.tensor(levels, dtype=torch.float32, device=device)
            velocity = predict(mix(batch.latents, noise, sigma), sigma, batch.condition, network=network)
            error = (velocity.float() - predict.target(batch.latents, noise)).square()
            yield masked_mean(error, batch.mask)

    def _track(self, subject: Subject, network: float) -> Track:
        """Draw a picture from fixed noise by Euler's method."""
        batch, predict = self._input(subject, 1)
        sigmas = predict.sampling_sigmas(len(self.grid.sigmas)).float()
        latents, points = self._noise(subject, batch, subject.text).to(batch.latents).unsqueeze(0), []
        for sigma, following in pairwise(sigmas):
            points.append(latents)
            velocity = predict(latents, sigma.view(1), batch.condition, network=network).float()
            latents = latents + (following - sigma) * velocity
        made = torch.cat(points).cpu()
        # Predicted once more, in the passes of later rounds: other batch sizes round differently.
        return Track(made, sigmas[:-1].cpu(), self._along(subject, made, sigmas[:-1].cpu(), network))

    def _along(self, subject: Subject, points: Tensor, sigmas: Tensor, network: float) -> Tensor:
        """Predictions at points of a track, [L, C, h, w], fp32, on the CPU."""
        found, device = [], self.learner.model.device
        for part in self._parts(range(len(sigmas))):
            batch, predict = self._input(subject, len(part))
            at = list(part)
            velocity = predict(points[at].to(device), sigmas[at].to(device), batch.condition, network=network)
            found.append(velocity.float().cpu())
        return torch.cat(found)

    def _write_tracks(self) -> None:
        tensors = {
            f"{number}.{name}": tensor.contiguous()
            for number, track in self.tracks.items()
            for name, tensor in vars(track).items()
        }
        self.store.parent.mkdir(exist_ok=True)
        write_tensors(self.store, {f"{self.grid.key}.{name}": tensor for name, tensor in tensors.items()})

    def _read_tracks(self) -> dict[int, Track]:
        """The tracks in the store; none if it is lost, or of another grid."""
        if not self.store.is_file():
            return {}
        found: dict[int, dict[str, Tensor]] = {}
        for name, tensor in read_tensors(self.store).items():
            key, number, part = name.split(".")
            if key == self.grid.key:
                found.setdefault(int(number), {})[part] = tensor
        return {number: Track(**parts) for number, parts in found.items()}

    def _parts(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        for start in range(0, len(items), self.grid.together):
            yield items[start : start + self.grid.together]

    def _input(self, subject: Subject, count: int) -> tuple[Batch, Prediction]:
        batch = self.feeder.fixed(subject.example, subject.text, count)
        prediction = Prediction(
            self.learner.model,
            self.learner.weights,
            self.feeder.draws,
            index=batch.index,
            num_tokens=batch.num_tokens,
            strength=batch.network_weight,
        )
        return batch, prediction

    def _noise(self, subject: Subject, batch: Batch, counter: str) -> Tensor:
        """Noise [C, h, w] that depends on nothing but the image and the counter."""
        return self.feeder.draws.normal(tuple(batch.latents.shape[1:]), _NOISE, subject.example.content_hash, counter)
