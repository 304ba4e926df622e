"""What is trained while it is killed: every network, optimizer and way of averaging there is, in small jobs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny import write_dataset, write_job
from toolkit.networks.choices import NETWORKS
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.schedule_choices import SCHEDULES

STEPS = 8
FULL = "full fine-tune"


@dataclass(frozen=True)
class Case:
    """One job.

    Attributes:
        trains: a kind of network, or `FULL`.
        optimizer: a key of `OPTIMIZERS`.
        has_ema: whether an average of the weights is kept.
        accumulation: batches per step.
        number: place in the list; the settings that matter less go round with it.
        steps: of the run.
    """

    trains: str
    optimizer: str
    has_ema: bool
    accumulation: int
    number: int
    steps: int = STEPS

    def __str__(self) -> str:
        average = ", EMA" if self.has_ema else ""
        return f"{self.trains}, {self.optimizer}{average}, accumulation {self.accumulation}"

    @property
    def save_every(self) -> int:
        """Steps between bundles."""
        return (2, 3, 4)[self.number % 3]

    @property
    def num_kept(self) -> int:
        """Bundles that retention keeps; 0 keeps all."""
        return (1, 2, 0)[self.number // 3 % 3]

    @property
    def schedule(self) -> str:
        """Course of the learning rate."""
        return list(SCHEDULES)[self.number % len(SCHEDULES)]

    @property
    def draws_samples(self) -> bool:
        """Whether pictures are drawn between the steps."""
        return self.number % 2 == 0

    @property
    def crops_anew(self) -> bool:
        """Whether pictures are cropped and encoded at every step, instead of once."""
        return self.number % 4 == 1

    def write(self, folder: Path, model: Path) -> Path:
        """Write the job with its own pictures. Returns the job file."""
        return write_job(folder, **self.sections(folder, model))

    def sections(self, folder: Path, model: Path) -> dict[str, Any]:
        """The sections of the job, whose pictures are made in the folder."""
        is_full = self.trains == FULL
        return {
            "network": None if is_full else {"type": self.trains, "linear": 2, "dropout": 0.2},
            "datasets": [self._dataset_section(folder)],
            "train": self._train_section() | ({"full_finetune": True} if is_full else {}),
            "save": {"save_every": self.save_every, "max_step_saves_to_keep": self.num_kept},
            "sample": {"sample_every": 3, "sample_steps": 1, "prompts": ["a red circle"]},
            "model": {"name_or_path": str(model)},
        }

    def _dataset_section(self, folder: Path) -> dict[str, Any]:
        return {
            "folder_path": str(write_dataset(folder / "images", count=3)),
            "resolution": 16 if self.crops_anew else 32,
            "random_crop": self.crops_anew,
            "caption_dropout_rate": 0.3,
            "cache_latents_to_disk": True,
            "cache_text_embeddings": True,
        }

    def _train_section(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "optimizer": self.optimizer,
            "lr_scheduler": self.schedule,
            "lr_scheduler_params": {"warmup_steps": 2},
            "gradient_accumulation": self.accumulation,
            "gradient_checkpointing": False,
            "disable_sampling": not self.draws_samples,
            **({"ema_config": {"use_ema": True, "ema_decay": 0.9}} if self.has_ema else {}),
            **({"lr": 1.0} if OPTIMIZERS[self.optimizer].finds_its_rate else {}),
        }


def cases(count: int) -> list[Case]:
    """The first `count` of all cases, in an order that shows every network, optimizer and option as soon as it can."""
    kinds = [kind for kind, row in OPTIMIZERS.items() if not row.notice]
    everything = [
        (network, optimizer, has_ema, accumulation)
        for network, optimizer, has_ema, accumulation in itertools.product(
            (*NETWORKS, FULL), kinds, (False, True), (1, 3)
        )
        if not (has_ema and OPTIMIZERS[optimizer].keeps_average)
    ]
    random.Random(0).shuffle(everything)
    chosen = enumerate(itertools.islice(_newest(everything), count))
    return [Case(*values, number) for number, values in chosen]


def _newest(waiting: list[tuple[str, str, bool, int]]) -> Iterator[tuple[str, str, bool, int]]:
    seen: set[tuple[int, Any]] = set()
    while waiting:
        best = max(waiting, key=lambda values: len({*enumerate(values)} - seen))
        waiting.remove(best)
        seen |= {*enumerate(best)}
        yield best
