"""Bugs to plant into a run, one at a time: a suite that stays green with one of these is worth nothing.

Each is a mistake that trainers have been shipped with. It is planted in a forked child only, in the uninterrupted run
too: what must show is that being killed makes a difference.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

import toolkit.output.bundles
import toolkit.train.learner
import toolkit.train.tasks.saver
from toolkit.encode.cache import TensorCache
from toolkit.files import whole_file
from toolkit.objectives.batch import Batch
from toolkit.objectives.velocity import VelocityObjective
from toolkit.optimizers.average import MovingAverage
from toolkit.output.bundles import Bundle
from toolkit.parallel.ranks import Ranks
from toolkit.parallel.weight_layout import WeightLayout
from toolkit.randomness import Draws
from toolkit.train.feeder import Feeder
from toolkit.train.resume import ResumePlan
from toolkit.train.tasks.saver import Saver
from toolkit.train.tasks.task import SaveTask
from toolkit.train.trainable import NetworkWeights, TrainableWeights
from toolkit.weights.tensor_files import read_tensors, write_tensors


@dataclass(frozen=True)
class Bug:
    """A mistake.

    Attributes:
        plant: puts it into this process.
        place: what the run is doing when it is killed, for the mistake to show: a key of `faults.PLACES`.
        after: kill it after this share of the operations of that place.
    """

    plant: Callable[[], None]
    place: str = "checkpoint"
    after: float = 0.5

    @property
    def name(self) -> str:
        """What is wrong, in words."""
        return self.plant.__name__.removeprefix("_").replace("_", " ")


def _replace(owner: Any, name: str, new: Any) -> None:
    """Put `new` in the place of something that must be there: a bug planted beside the code proves nothing."""
    assert hasattr(owner, name), f"{owner} has no {name} any more: plant this bug elsewhere"
    setattr(owner, name, new)


# What is restored


def _average_not_restored() -> None:
    _replace(MovingAverage, "load", lambda self, average, *, since: None)


def _average_restored_as_the_weights() -> None:
    restore = toolkit.train.tasks.saver.restore_weights

    def confused(
        weights: TrainableWeights, tensors: Mapping[str, Tensor], layout: WeightLayout, *, source: Path
    ) -> None:
        restore(weights, read_tensors(source / "ema.safetensors"), layout, source=source)

    _replace(toolkit.train.tasks.saver, "restore_weights", confused)


def _optimizer_state_not_restored() -> None:
    _replace(toolkit.train.tasks.saver, "load_optimizer_tensors", lambda optimizer, tensors: None)


def _optimizer_state_kept_in_bf16() -> None:
    whole = toolkit.train.tasks.saver.optimizer_tensors

    def rounded(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        return {
            name: tensor.bfloat16().to(tensor.dtype) if tensor.is_floating_point() else tensor
            for name, tensor in whole(optimizer).items()
        }

    _replace(toolkit.train.tasks.saver, "optimizer_tensors", rounded)


def _step_off_by_one() -> None:
    resume = SaveTask.resume

    def one_more(self: SaveTask, plan: ResumePlan, num_steps: int, ranks: Ranks) -> int:
        start = resume(self, plan, num_steps, ranks)
        return start + 1 if start else 0

    _replace(SaveTask, "resume", one_more)


# What is drawn, and from where


def _data_order_starts_over() -> None:
    batches, done = Feeder.batches, iter(range(10**9))
    _replace(Feeder, "batches", lambda self, step: batches(self, next(done)))


def _accumulation_not_counted_when_resuming() -> None:
    first: list[int] = []

    def batches(self: Feeder, step: int) -> list[Batch]:
        accumulation = self.settings.accumulation
        first.append(step)
        start = first[0] + (step - first[0]) * accumulation
        return [self.batch(start + part) for part in range(accumulation)]

    _replace(Feeder, "batches", batches)


def _noise_from_the_global_generator() -> None:
    draw = VelocityObjective.draw

    def carried(self: VelocityObjective, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        return torch.randn(batch.latents.shape), draw(self, batch, draws)[1]

    torch.manual_seed(0)
    _replace(VelocityObjective, "draw", carried)


def _dropout_from_the_global_generator() -> None:
    torch.manual_seed(0)
    _replace(NetworkWeights, "has_dropout", False)  # which only says that the generator is to be set


def _schedule_starts_over() -> None:
    made, done = toolkit.train.learner.schedule_of, iter(range(10**9))

    def made_anew(train: Any) -> Any:
        schedule = made(train)
        return lambda step: schedule(next(done))

    _replace(toolkit.train.learner, "schedule_of", made_anew)


# What is on disk


def _files_not_written_whole() -> None:
    @contextlib.contextmanager
    def in_place(path: Path) -> Iterator[Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        yield path
        with path.open("rb+") as file:
            os.fsync(file.fileno())

    for module in [module for module in sys.modules.values() if vars(module).get("whole_file") is whole_file]:
        _replace(module, "whole_file", in_place)


def _manifest_written_first() -> None:
    write = toolkit.train.tasks.saver.write_bundle

    def reversed_order(output_folder: Path, *, parts: Mapping[str, Mapping[str, Tensor]], **others: Any) -> Bundle:
        bundle = write(output_folder, parts=parts, **others)
        assert bundle is not None
        for name in parts:
            (bundle.folder / f"{name}.safetensors").unlink(missing_ok=True)
        for name, tensors in parts.items():
            if tensors:
                write_tensors(bundle.folder / f"{name}.safetensors", tensors)
        return bundle

    def trusting(folder: Path, **_: bool) -> Bundle:
        return Bundle(int(folder.name), folder, json.loads((folder / "manifest.json").read_text(encoding="utf-8")))

    _replace(toolkit.train.tasks.saver, "write_bundle", reversed_order)
    _replace(toolkit.output.bundles, "read_bundle", trusting)


def _old_bundles_deleted_before_the_new_one_is_written() -> None:
    save = Saver._write

    def prune_and_save(self: Saver, *arguments: Any, **options: Any) -> Any:
        for manifest in self.folder.glob("state/*/manifest.json"):
            manifest.unlink()
        return save(self, *arguments, **options)

    _replace(Saver, "_write", prune_and_save)


def _cut_cache_entry_trusted() -> None:
    def put(self: TensorCache, key: str, tensors: Mapping[str, Tensor], metadata: Any = None) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}))
            file.flush()
            os.fsync(file.fileno())

    def get(self: TensorCache, key: str) -> dict[str, Tensor] | None:
        path = self.path(key)
        if not path.exists():
            return None
        data = path.read_bytes()
        header = int.from_bytes(data[:8], "little")
        whole = max(end for _, end in _places(data, header)) if data[8 + header :] else 0
        return safetensors.torch.load(data.ljust(8 + header + whole, b"\0")) if whole else None

    _replace(TensorCache, "put", put)
    _replace(TensorCache, "get", get)


def _places(data: bytes, header: int) -> Sequence[tuple[int, int]]:
    entries = json.loads(data[8 : 8 + header])
    return [tuple(entry["data_offsets"]) for name, entry in entries.items() if name != "__metadata__"]


BUGS = {
    bug.name: bug
    for bug in (
        Bug(_average_not_restored),
        Bug(_average_restored_as_the_weights),
        Bug(_optimizer_state_not_restored),
        Bug(_optimizer_state_kept_in_bf16),
        Bug(_step_off_by_one),
        Bug(_data_order_starts_over),
        Bug(_accumulation_not_counted_when_resuming),
        Bug(_noise_from_the_global_generator),
        Bug(_dropout_from_the_global_generator),
        Bug(_schedule_starts_over),
        Bug(_files_not_written_whole, after=0),
        Bug(_manifest_written_first),
        Bug(_old_bundles_deleted_before_the_new_one_is_written),
        Bug(_cut_cache_entry_trusted, place="cache", after=0),
    )
}
