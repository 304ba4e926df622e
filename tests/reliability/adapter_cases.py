"""Adapters that are trained while the run is killed: every kind, alone or beside others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reliability.cases import Case
from tests.tiny import write_dataset
from toolkit.adapters.choices import ADAPTERS


@dataclass(frozen=True)
class AdapterCase(Case):
    """A job with adapters, which see the training images themselves.

    Attributes:
        adapters: their kinds.
        encoder: folder of the vision encoder.
    """

    adapters: tuple[str, ...] = ()
    encoder: Path = Path()

    def __str__(self) -> str:
        return f"{' and '.join(self.adapters)} beside {super().__str__()}"

    @property
    def reads(self) -> set[str]:
        """What the adapters read."""
        return {ADAPTERS[kind].reads for kind in self.adapters}

    def sections(self, folder: Path, model: Path) -> dict[str, Any]:
        """See Case."""
        return {**super().sections(folder, model), "adapter": [self._adapter_section(kind) for kind in self.adapters]}

    def _adapter_section(self, kind: str) -> dict[str, Any]:
        settings: dict[str, dict[str, Any]] = {
            "view": {"image_encoder_path": str(self.encoder), "image_dropout_rate": 0.3},
            "control": {"control_image_dropout": 0.3},
            "none": {},
        }
        return {"type": kind, **settings[ADAPTERS[kind].reads]}

    def _dataset_section(self, folder: Path) -> dict[str, Any]:
        section = super()._dataset_section(folder)
        if "view" in self.reads:
            section |= {"clip_image_from_same_folder": True, "cache_clip_vision_to_disk": True}
        if "control" in self.reads:
            section["control_path"] = str(write_dataset(folder / "control"))
        return section

    def _train_section(self) -> dict[str, Any]:
        section = super()._train_section()
        if "mean_flow" in self.adapters:
            section |= {"objective": "mean_flow", "objective_params": {"teacher_steps": 1}}
        return section


def adapter_cases(encoder: Path) -> list[AdapterCase]:
    """One for each kind of adapter, and one of two kinds; all beside a LoRA."""
    chosen = [*((kind,) for kind in ADAPTERS), ("redux", "vision_direct")]
    # Numbers that crop nothing anew, which control pictures do not allow, with and without samples.
    numbers = (0, 2, 3, 4, 6, 7, 8, 10)
    return [
        AdapterCase(
            "lora",
            "adamw",
            has_ema=number % 3 == 0,
            accumulation=1 + number % 2,
            number=number,
            steps=4,
            adapters=kinds,
            encoder=encoder,
        )
        for number, kinds in zip(numbers, chosen, strict=True)
    ]
