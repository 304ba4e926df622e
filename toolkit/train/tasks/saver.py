"""Checkpoints of a run: the weights that users get, and the bundle that a later start resumes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.adapters.choices import possible_suffixes
from toolkit.config import SaveConfig
from toolkit.config.updates.average import RAW
from toolkit.dtypes import DTYPES, torch_dtype
from toolkit.errors import UserError
from toolkit.files import is_disk_full
from toolkit.optimizers.stored.state import load_optimizer_tensors, optimizer_tensors
from toolkit.output.bundles import Bundle, begin_bundle, bundle_folder, file_size
from toolkit.output.disk import free_bytes
from toolkit.output.retention import discard_unfinished, prune
from toolkit.output.unowned import step_inside
from toolkit.parallel.ranks import RankFailed
from toolkit.parallel.weight_layout import WeightLayout
from toolkit.train.learner import Learner
from toolkit.train.run_facts import DATASET, RunFacts
from toolkit.train.tasks.checkpoint import read_optimizer, read_part, write_bundle
from toolkit.train.trainable import raw_weights, restore_weights
from toolkit.weights.tensor_files import num_bytes

BEST = "_best"  # after the job's name, in the file of the weights of the best validation round
AVERAGES = "averages"  # of a manifest: the step that each average began at


class DiskFull(UserError):
    """There was no room for a checkpoint. Earlier checkpoints are intact."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written.

    Attributes:
        path: file or folder with the user's weights.
        deleted: what retention deleted: weight files of older checkpoints, and folders whose state was deleted.
        complaint: why retention could not delete old checkpoints; None if it could.
        num_bytes: size of the weights.
        is_final: whether these are the weights of the last step, under the job's name.
    """

    path: Path
    deleted: tuple[Path, ...] = ()
    complaint: str | None = None
    num_bytes: int = 0
    is_final: bool = False


def apply_retention(
    folder: Path, config: SaveConfig, step: int, *, is_final: bool = False
) -> tuple[tuple[Path, ...], str | None]:
    """Delete what retention no longer keeps once a step is saved. Returns `deleted` and `complaint` as in `Saved`."""
    keep = config.max_step_saves_to_keep
    if is_final and keep:
        keep += 1  # the final state is kept in addition to the step saves
    try:
        return tuple(prune(folder, keep, newest=step, keep_states=config.max_states_to_keep)), None
    except OSError as error:  # the checkpoint is written; the next one prunes again
        what = f"{error.filename or folder} ({error.strerror or error})"
        return (), f"old checkpoints could not be deleted: {what}"


class Saver:
    """Writes and reads the checkpoints of one output folder. If the weights are spread, all ranks do so together.

    Args:
        folder: the output folder.
        config: the settings of `save`.
        learner: what is trained, with its optimizer and averages.
        facts: what bundles record about the run; its job's name begins the names of the weight files.
        metadata: the header of a weight file, by the step that it is of.
        documents: what else bundles keep, as plain JSON by name; called for each bundle.

    Attributes:
        newest: step of the newest checkpoint that can be resumed; None before the first one.
        saves_raw: whether users also get the weights without averaging.
    """

    def __init__(
        self,
        folder: Path,
        config: SaveConfig,
        learner: Learner,
        *,
        facts: RunFacts,
        metadata: Callable[[int], dict[str, str]],
        documents: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.folder = folder
        self.config = config
        self.learner = learner
        self.facts = facts
        self.metadata = metadata
        self.documents = documents
        ema = (facts.config["train"].get("ema_config") or {}) if learner.average else {}
        self.saves_raw = bool(ema.get("save_raw"))
        self.newest: int | None = None

    def save_step(self, step: int) -> Saved:
        """Write the weights of a step and its bundle, then delete what retention no longer keeps.

        Raises:
            DiskFull: there is no room on the disk.
            UserError: the checkpoint cannot be written for another reason.
        """
        files = self._write(f"{self.facts.job}_{step:09d}", step)
        size = _size_of(files)
        return Saved(files[0], *self._retain(step), num_bytes=size)

    def save_final(self, step: int) -> Saved:
        """Write the weights under the job's name, and the bundle of the last step. Raises like `save_step`.

        If the last step has a bundle already, because nothing was left to train, that bundle is not touched.
        """
        files = self._write(self.facts.job, step, is_final=True)
        size = _size_of(files)
        return Saved(files[0], *self._retain(step, is_final=True), num_bytes=size, is_final=True)

    @property
    def layout(self) -> WeightLayout:
        """Where the trained weights are."""
        return self.learner.model.layout

    @property
    def final_files(self) -> tuple[Path, ...]:
        """The files or the folder that `save_final` may write, depending on the format and on what is trained."""
        return self._paths(self.facts.job)

    def save_best(self, step: int, figure: Mapping[str, Any]) -> Path:
        """Write the weights that users get to `<name>_best`, which belongs to no bundle, so that it is never deleted.

        Args:
            step: number of updates done.
            figure: the figure by which the weights are best, as plain JSON for the header of the file.

        Raises:
            DiskFull: there is no room on the disk.
            UserError: the weights cannot be written for another reason.
        """
        try:
            with self.learner.averaged():
                return self._save_weights(f"{self.facts.job}{BEST}", step, validation=json.dumps(dict(figure)))[0]
        except (OSError, UserError, RankFailed) as error:
            raise self._failed(error, step, {"weights": {}}, ()) from error

    def best_files(self, *, after: int) -> tuple[Path, ...]:
        """The files or folder of the best weights, unless they are known to be of step `after` or earlier."""
        steps = {path: step_inside(path) for path in self._paths(f"{self.facts.job}{BEST}") if path.exists()}
        return tuple(path for path, step in steps.items() if step is None or step > after)

    def _paths(self, name: str) -> tuple[Path, ...]:
        files = [self.folder / f"{name}{suffix}.safetensors" for suffix in possible_suffixes()]
        return (*files, self.folder / name)

    def restore(self, bundle: Bundle, *, with_optimizer: bool = True) -> None:
        """Restore the state from a bundle that has been checked.

        Raises:
            UserError: the bundle is from a job that trains other weights.
        """
        weights, layout = self.learner.weights, self.layout
        restore_weights(weights, read_part(bundle, "weights", layout), layout, source=bundle.folder)
        if with_optimizer:
            load_optimizer_tensors(self.learner.optimizer, read_optimizer(bundle, layout, self.learner.pieces))
        begun = bundle.manifest.get(AVERAGES, {})
        for part, average in self.learner.averages.items():
            saved = read_part(bundle, part, layout)
            values = saved or raw_weights(weights, layout)  # the average starts here
            since = begun.get(part, 0) if saved else bundle.step
            average.load([values[name] for name, _ in weights.named_parameters()], since=since)
        if bundle.root.resolve() == self.folder.resolve():
            self.newest = bundle.step

    def _write(self, name: str, step: int, *, is_final: bool = False) -> tuple[Path, ...]:
        """Write the weights, then the bundle. Retention never deletes the final weights: no bundle lists them."""
        parts, folder = self._parts(), bundle_folder(self.folder, step)
        begun = {part: average.since for part, average in self.learner.averages.items()}
        files: tuple[Path, ...] = ()
        try:
            if self.newest != step:
                self.layout.by_first(lambda: begin_bundle(folder))
            with self.learner.averaged():
                files = self._save_weights(name, step)
            if self.saves_raw:
                files += self._save_weights(name.replace(self.facts.job, f"{self.facts.job}{RAW}", 1), step)
            if self.newest != step:
                write_bundle(
                    self.folder,
                    step=step,
                    parts=parts,
                    output_files=() if is_final else files,
                    facts=self.facts.at(step) | ({AVERAGES: begun} if begun else {}),
                    documents={DATASET: self.facts.dataset, **self.documents()},
                    layout=self.layout,
                )
        except (OSError, UserError, RankFailed) as error:
            raise self._failed(error, step, parts, () if is_final else files) from error
        self.newest = step
        return files

    def _save_weights(self, name: str, step: int, **more: str) -> tuple[Path, ...]:
        dtype, metadata = torch_dtype(self.config.dtype), self.metadata(step) | more
        return self.learner.weights.save(self.folder / name, dtype=dtype, metadata=metadata)

    def _parts(self) -> dict[str, Mapping[str, Tensor]]:
        weights = self.learner.weights
        names = [name for name, _ in weights.named_parameters()]
        return {
            "weights": raw_weights(weights, self.layout),
            "optimizer": optimizer_tensors(self.learner.optimizer),
            **{part: dict(zip(names, one.average, strict=True)) for part, one in self.learner.averages.items()},
        }

    def _retain(self, step: int, *, is_final: bool = False) -> tuple[tuple[Path, ...], str | None]:
        retained = self.layout.by_first(lambda: apply_retention(self.folder, self.config, step, is_final=is_final))
        return retained or ((), None)

    def _failed(
        self, error: Exception, step: int, parts: Mapping[str, Mapping[str, Tensor]], files: tuple[Path, ...]
    ) -> Exception:
        """Delete what a failed save left behind, and return the error to raise: DiskFull on all ranks or on none."""
        if self.newest != step and not isinstance(error, UserError):
            self.layout.by_first(lambda: discard_unfinished(bundle_folder(self.folder, step), files))
        mine = self._explained(error, step, parts) if isinstance(error, OSError) else error
        full = self.layout.gather(str(mine) if isinstance(mine, DiskFull) else "")
        is_other = self.layout.any(not isinstance(mine, DiskFull | RankFailed))
        if any(full) and not is_other and isinstance(mine, RankFailed):
            return DiskFull(next(f"rank {rank}: {text}" for rank, text in enumerate(full) if text))
        return mine

    def _explained(self, error: OSError, step: int, parts: Mapping[str, Mapping[str, Tensor]]) -> UserError:
        intact = (
            "There is no earlier one." if self.newest is None else f"The checkpoint of step {self.newest} is intact."
        )
        where = f"{error.filename or self.folder}: the checkpoint of step {step} cannot be written"
        if not is_disk_full(error):
            return UserError(
                f"{where} ({error.strerror or error}). {intact} Fix the cause, then start the same job again."
            )
        weights = num_bytes(parts["weights"]) * DTYPES[self.config.dtype].num_bytes // 4
        needed = weights + sum(num_bytes(tensors) for tensors in parts.values())
        free = free_bytes(self.folder)
        return DiskFull(
            f"{where}: the disk is full. It needs {needed:,} bytes, and {free:,} are free. {intact} "
            "Free space, or lower save.max_states_to_keep or save.max_step_saves_to_keep; then start the job again."
        )


def _size_of(files: Sequence[Path]) -> int:
    return sum(file_size(path) or 0 for path in files)
