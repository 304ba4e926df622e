"""Checkpoints of a run: what users take away, and the bundle that a later start goes on from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import torch

from toolkit.config import SaveConfig
from toolkit.errors import UserError
from toolkit.train.checkpoint import Bundle, find_bundles, prune, write_bundle
from toolkit.train.ema import ExponentialMovingAverage
from toolkit.train.optimizers import load_optimizer_tensors, optimizer_tensors
from toolkit.train.trained import Trained, raw_weights, restore_weights
from toolkit.weights.dtypes import DTYPES


class Saver:
    """Writes and reads the checkpoints of one output folder."""

    def __init__(
        self,
        folder: Path,
        job_name: str,
        config: SaveConfig,
        trained: Trained,
        optimizer: torch.optim.Optimizer,
        ema: ExponentialMovingAverage | None,
        *,
        metadata: Callable[[int], dict[str, str]],
    ) -> None:
        self.folder = folder
        self.job_name = job_name
        self.config = config
        self.trained = trained
        self.optimizer = optimizer
        self.ema = ema
        self.metadata = metadata

    def save_step(self, step: int) -> tuple[Path, list[Path]]:
        """Write the weights of a step and its bundle, then delete what retention no longer keeps.

        Returns:
            The weights' file, and the files that were deleted.
        """
        files = self._write(f"{self.job_name}_{step:09d}", step)
        return files[0], prune(self.folder, self.config.max_step_saves_to_keep)

    def save_final(self, step: int) -> Path:
        """Write the weights under the job's name, and the bundle of the last step."""
        files = self._write(self.job_name, step, is_final=True)
        keep = self.config.max_step_saves_to_keep
        prune(self.folder, keep + 1 if keep else 0)  # the last state comes on top of the step saves
        return files[0]

    def resume(self) -> tuple[Bundle | None, list[str]]:
        """Put back the newest valid bundle, if there is one.

        Returns:
            The bundle, and a line for each one that was passed over.

        Raises:
            UserError: the bundle was made by a job with other trained weights.
        """
        bundles, passed_over = find_bundles(self.folder)
        if not bundles:
            return None, passed_over
        bundle = bundles[-1]
        restore_weights(self.trained, bundle.tensors("weights"), source=bundle.folder)
        load_optimizer_tensors(self.optimizer, bundle.tensors("optimizer"))
        if self.ema is not None:
            averages = bundle.tensors("ema")
            if averages:
                names = [name for name, _ in self.trained.named_parameters()]
                self.ema.load([averages[name] for name in names])
        return bundle, passed_over

    def _write(self, name: str, step: int, *, is_final: bool = False) -> tuple[Path, ...]:
        """The weights and then the bundle. The final weights belong to no bundle: retention never deletes them."""
        try:
            with self.ema.swapped_in() if self.ema else contextlib.nullcontext():
                files = self.trained.save(
                    self.folder / name, dtype=DTYPES[self.config.dtype], metadata=self.metadata(step)
                )
            self._write_bundle(step, () if is_final else files)
        except OSError as error:
            raise UserError(
                f"{self.folder / name}: the checkpoint of step {step} cannot be written ({error.strerror or error}). "
                "Earlier checkpoints are intact: make room or mend the permissions, then start the same job again."
            ) from error
        return files

    def _write_bundle(self, step: int, output_files: tuple[Path, ...]) -> None:
        names = [name for name, _ in self.trained.named_parameters()]
        averages = dict(zip(names, self.ema.average, strict=True)) if self.ema else {}
        write_bundle(
            self.folder,
            step=step,
            parts={
                "weights": raw_weights(self.trained),
                "optimizer": optimizer_tensors(self.optimizer),
                "ema": averages,
            },
            output_files=output_files,
            facts={"job": self.job_name},
        )
