"""Registers the trainer under the names that job files use."""

from __future__ import annotations

from collections.abc import Callable

from jobs.process.BaseProcess import BaseProcess
from jobs.process.checked import Checked
from jobs.process.start import Start
from toolkit.extension import Extension
from toolkit.runtime.imports.light_imports import quick_imports


class SDTrainerExtension(Extension):
    """LoRA training and full fine-tuning."""

    uid = "sd_trainer"
    name = "Trainer"

    @classmethod
    def get_process(cls) -> type[BaseProcess]:
        """The trainer; loads torch."""
        with quick_imports():
            from extensions_built_in.sd_trainer.SDTrainer import SDTrainer

        return SDTrainer

    @classmethod
    def get_check(cls) -> Callable[[Start], Checked]:
        """The trainer's check; loads no torch."""
        from jobs.process.training_check import check_training

        return check_training


class DiffusionTrainerExtension(SDTrainerExtension):
    """The trainer under the name that ai-toolkit's web UI writes into job files."""

    uid = "diffusion_trainer"


class UITrainerExtension(SDTrainerExtension):
    """The trainer under the name that older versions of ai-toolkit's web UI wrote."""

    uid = "ui_trainer"


class ConceptSliderExtension(SDTrainerExtension):
    """The trainer with `objective: concept_slider`, under the name that ai-toolkit has for it."""

    uid = "concept_slider"
    name = "Concept slider"


AI_TOOLKIT_EXTENSIONS = [SDTrainerExtension, DiffusionTrainerExtension, UITrainerExtension, ConceptSliderExtension]
