"""Checkpoints of a run: what users take away, and the bundle that a later start goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from toolkit.config import SaveConfig
from toolkit.dtypes import DTYPES, torch_dtype
from toolkit.errors import UserError
from toolkit.files import is_disk_full
from toolkit.optimizers.optimizers import load_optimizer_tensors, optimizer_tensors
from toolkit.output.bundles import Bundle, begin_bundle, bundle_folder, file_size
from toolkit.output.disk import free_bytes
from toolkit.output.retention import discard_unfinished, prune
from toolkit.train.learner import Learner
from toolkit.train.run_facts import DATASET, RunFacts
from toolkit.train.tasks.checkpoint import read_part, write_bundle
from toolkit.train.trainable import raw_weights, restore_weights
from toolkit.weights.tensor_files import num_bytes


class DiskFull(UserError):
    """A checkpoint found no room. The ones before it are intact."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written.

    Attributes:
        path: the weights for the user.
        deleted: files of older checkpoints that went, and folders of those whose state went.
        complaint: why they could not.
        num_bytes: of the weights.
        is_final: the weights of the last step, under the job's name.
    """

    path: Path
    deleted: tuple[Path, ...] = ()
    complaint: str | None = None
    num_bytes: int = 0
    is_final: bool = False


def apply_retention(
    folder: Path, config: SaveConfig, step: int, *, is_final: bool = False
) -> tuple[tuple[Path, ...], str | None]:
    """Delete what a job no longer keeps when the checkpoint of a step stands: `deleted` and `complaint` of Saved."""
    keep = config.max_step_saves_to_keep
    if is_final and keep:
        keep += 1  # the last state comes on top of the step saves
    try:
        return tuple(prune(folder, keep, newest=step, keep_states=config.max_states_to_keep)), None
    except OSError as error:  # the checkpoint is written; the next one prunes again
        what = f"{error.filename or folder} ({error.strerror or error})"
        return (), f"old checkpoints could not be deleted: {what}"


class Saver:
    """Writes and reads the checkpoints of one output folder.

    Attributes:
        newest: step of the newest checkpoint that can be resumed; None before the first.
    """

    def __init__(
        self,
        folder: Path,
        job_name: str,
        config: SaveConfig,
        learner: Learner,
        *,
        facts: RunFacts,
        metadata: Callable[[int], dict[str, str]],
    ) -> None:
        self.folder = folder
        self.job_name = job_name
        self.config = config
        self.learner = learner
        self.facts = facts
        self.metadata = metadata
        self.newest: int | None = None

    def save_step(self, step: int) -> Saved:
        """Write the weights of a step and its bundle, then delete what retention no longer keeps.

        Raises:
            DiskFull: there is no room.
            UserError: it cannot be written for another reason.
        """
        files = self._write(f"{self.job_name}_{step:09d}", step)
        size = _size_of(files)
        return Saved(files[0], *apply_retention(self.folder, self.config, step), num_bytes=size)

    def save_final(self, step: int) -> Saved:
        """Write the weights under the job's name, and the bundle of the last step. Raises as `save_step` does.

        A run that had nothing left to do has its bundle already: that one is not put at risk.
        """
        files = self._write(self.job_name, step, is_final=True)
        size = _size_of(files)
        return Saved(
            files[0], *apply_retention(self.folder, self.config, step, is_final=True), num_bytes=size, is_final=True
        )

    @property
    def final_files(self) -> tuple[Path, Path]:
        """Where `save_final` writes: a file, or a folder."""
        return self.folder / f"{self.job_name}.safetensors", self.folder / self.job_name

    def restore(self, bundle: Bundle, *, with_optimizer: bool = True) -> None:
        """Put back a bundle that has been checked.

        Raises:
            UserError: the bundle was made by a job with other trained weights.
        """
        weights, average = self.learner.weights, self.learner.average
        restore_weights(weights, read_part(bundle, "weights"), source=bundle.folder)
        if with_optimizer:
            load_optimizer_tensors(self.learner.optimizer, read_part(bundle, "optimizer"))
        if average is not None:
            averages = read_part(bundle, "ema") or raw_weights(weights)  # an average that begins here
            average.load([averages[name] for name, _ in weights.named_parameters()])
        if bundle.root.resolve() == self.folder.resolve():
            self.newest = bundle.step

    def _write(self, name: str, step: int, *, is_final: bool = False) -> tuple[Path, ...]:
        """The weights and then the bundle. The final weights belong to no bundle: retention never deletes them."""
        parts = self._parts()
        files: tuple[Path, ...] = ()
        try:
            if self.newest != step:
                begin_bundle(bundle_folder(self.folder, step))
            with self.learner.averaged():
                files = self.learner.weights.save(
                    self.folder / name, dtype=torch_dtype(self.config.dtype), metadata=self.metadata(step)
                )
            if self.newest != step:
                write_bundle(
                    self.folder,
                    step=step,
                    parts=parts,
                    output_files=() if is_final else files,
                    facts=self.facts.at(step),
                    documents={DATASET: self.facts.dataset},
                )
        except OSError as error:
            raise self._explained(error, step, parts, () if is_final else files) from error
        self.newest = step
        return files

    def _parts(self) -> dict[str, Mapping[str, Tensor]]:
        weights, average = self.learner.weights, self.learner.average
        names = [name for name, _ in weights.named_parameters()]
        return {
            "weights": raw_weights(weights),
            "optimizer": optimizer_tensors(self.learner.optimizer),
            "ema": dict(zip(names, average.average, strict=True)) if average else {},
        }

    def _explained(
        self, error: OSError, step: int, parts: Mapping[str, Mapping[str, Tensor]], files: tuple[Path, ...]
    ) -> UserError:
        """Free what the attempt took, and say what happened."""
        if self.newest != step:
            discard_unfinished(bundle_folder(self.folder, step), files)
        intact = (
            "No checkpoint was written before it." if self.newest is None else f"That of step {self.newest} is intact."
        )
        where = f"{error.filename or self.folder}: the checkpoint of step {step} cannot be written"
        if not is_disk_full(error):
            return UserError(
                f"{where} ({error.strerror or error}). {intact} Mend what stands in the way, then start the same job "
                "again."
            )
        weights = num_bytes(parts["weights"]) * DTYPES[self.config.dtype].num_bytes // 4
        needed = weights + sum(num_bytes(tensors) for tensors in parts.values())
        free = free_bytes(self.folder)
        return DiskFull(
            f"{where}: the disk is full. It needs {needed:,} bytes, and {free:,} are free. {intact} "
            "Make room, or lower save.max_states_to_keep or save.max_step_saves_to_keep, then start the same job again."
        )


def _size_of(files: Sequence[Path]) -> int:
    return sum(file_size(path) or 0 for path in files)
