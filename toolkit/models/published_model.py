"""A model whose components are published files, local or on the hub."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy
from torch import Tensor, nn

from toolkit.errors import Mistakes
from toolkit.lora.update import SizedTarget
from toolkit.memory.tiling import WHOLE_LOW_VRAM_PX, WHOLE_PX
from toolkit.model_size import TransformerSize
from toolkit.models.base_model import BaseModel, Component
from toolkit.quantize.fill import linear_layers
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.sources import Sources


class PublishedModel(BaseModel, is_abstract=True):
    """BaseModel with the answers shared by all models that are loaded from published files.

    Each family defines what its files are called (`single_files`) and how they are read (`load`).
    """

    @classmethod
    @abstractmethod
    def single_files(cls, component: str) -> tuple[str, ...]:
        """File names under which a component is published as a single file, best first; empty if it never is."""

    @property
    def sources(self) -> Sources:
        """Where the job's components are."""
        return Sources(self.model_config, self.card, self.single_files)

    @abstractmethod
    def file_checks(self) -> Mapping[str, Callable[[ComponentFiles], object]]:
        """What reads the headers of a component's files, by component; each raises UserError where they are wrong."""

    def check_files(self) -> None:
        """See BaseModel.check_files: all that is wrong at once. What is on the hub is checked when it comes."""
        mistakes = Mistakes()
        for component, check in self.file_checks().items():
            if component in self.options.without:
                continue
            with mistakes.gathered():
                files = self.sources.find_local(component)
                if files is not None:
                    check(files)
        if mistakes:
            raise mistakes.error(self.model_config.name_or_path)

    @staticmethod
    def sigmas_of(scheduler: Any, num_steps: int, *, mu: float) -> Tensor:
        """Noise levels between the steps of a scheduler, for `get_sampling_sigmas`, [num_steps + 1].

        Args:
            scheduler: a FlowMatchEulerDiscreteScheduler, which is not changed.
            num_steps: number of steps.
            mu: logarithm of the shift, for schedulers that shift by the image's size.
        """
        own = copy.copy(scheduler)
        own.set_timesteps(sigmas=numpy.linspace(1.0, 1 / num_steps, num_steps), mu=mu)
        sigmas: Tensor = own.sigmas.float().cpu()
        return sigmas

    def check_access(self) -> None:
        """See BaseModel.check_access."""
        self.sources.check_reachable(name for name in self.components if name not in self.options.without)

    def count_local_weights(self) -> int | None:
        """See BaseModel.count_local_weights."""
        return self.sources.count_local_weights("transformer")

    def get_quantizable_layers(self, component: Component, module: nn.Module) -> list[str]:
        """See BaseModel.get_quantizable_layers. Every linear layer inside the blocks, none outside."""
        return linear_layers(module, self.list_blocks(module))

    @classmethod
    def list_lora_targets(cls, size: TransformerSize) -> list[SizedTarget]:
        """What `get_lora_targets` returns for a transformer of this size, without loading it; empty if unknown."""
        return []

    def plan_lora_targets(self) -> list[SizedTarget]:
        """See BaseModel.plan_lora_targets. Uses the size on the card."""
        return [] if self.card.size is None else self.list_lora_targets(self.card.size.transformer)

    @property
    def _whole_px(self) -> int:
        """Images with more pixels than this are decoded in tiles."""
        return WHOLE_LOW_VRAM_PX if self.model_config.low_vram else WHOLE_PX
