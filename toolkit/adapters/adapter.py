"""What every adapter does: it attaches itself to a loaded model, reads its inputs, and has weights that are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.lora.update import must_be_finite_tensor
from toolkit.memory.recompute import BlockValue
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.models.condition import Condition
from toolkit.randomness import Draws
from toolkit.weights.headers import must_match
from toolkit.weights.streaming import misfits


@dataclass(frozen=True, eq=False)
class AdapterInputs:
    """What an adapter reads during one pass through the transformer.

    Attributes:
        num_noisy: number of tokens of the noisy image.
        view: features of a vision encoder, [B, M, E]; None turns the adapter off.
        control: clean latents of control pictures, all channels of the first, then of the second, [B, n * C, h, w], in
            image layout like the noisy latents; None for no control.
        target_sigma: noise level at which the step ends, [B], 0..1; None if that is not known.
    """

    num_noisy: int
    view: Tensor | None = None
    control: Tensor | None = None
    target_sigma: Tensor | None = None


class Adapter(ABC):
    """An adapter of one job. Its weights are fp32 whatever the model's dtype; initially it changes nothing.

    Attributes:
        is_unconditional_off: whether the adapter is off in the unconditional pass of true guidance.
        for_readers: keys of `metadata` that only tell readers something; the others must match when a file is loaded.
        config: the adapter's section of the job.
        strength: factor of what the adapter adds.
    """

    is_unconditional_off: ClassVar[bool] = False
    for_readers: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        self.strength = BlockValue(1.0)

    @abstractmethod
    def attach(self, model: BaseModel, draws: Draws) -> None:
        """Create the weights on the model's device, and hook into its transformer, which has its LoRA already.

        Raises:
            UserError: the model, or another adapter on it, does not go with this one.
        """

    @abstractmethod
    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Every trained weight exactly once, in a fixed order, under the names of the file."""

    @abstractmethod
    def reading(self, inputs: AdapterInputs) -> AbstractContextManager[None]:
        """Within the `with` block the adapter works on these inputs; also when backward recomputes what ran there.

        Outside of such a block the adapter is off: the model predicts as without it.
        """

    def adapted(self, condition: Condition, inputs: AdapterInputs) -> Condition:
        """The condition that the model gets: most adapters return it as it is."""
        return condition

    def scaled(self, factor: float) -> AbstractContextManager[None]:
        """Within the `with` block, what the adapter adds counts `factor` times; also when backward recomputes."""
        return self.strength.set(self.strength.value * factor)

    @property
    def num_weights(self) -> int:
        """Number of trained weights."""
        return sum(weight.numel() for _, weight in self.named_parameters())

    def state_dict(self) -> StateDict:
        """The content of the adapter's file: fp32 tensors under the file's keys."""
        return {name: weight.detach() for name, weight in self.named_parameters()}

    @abstractmethod
    def metadata(self) -> dict[str, str]:
        """What the file's header says for readers: sizes, encoder, places."""

    def lora_beside(self, tensors: Mapping[str, Tensor]) -> StateDict:
        """The tensors of a LoRA that other programs write into the same file; most adapters have none.

        Raises:
            UserError: the file also changes what neither an adapter nor a LoRA holds.
        """
        return {}

    def restore(self, tensors: StateDict, *, source: str) -> None:
        """Take the weights from the content of a file whose header matches; every key and shape must be right.

        Raises:
            UserError: the file is of another adapter, model or encoder.
        """
        own = dict(self.named_parameters())
        wanted = {name: tuple(weight.shape) for name, weight in own.items()}
        if found := misfits({name: tuple(tensor.shape) for name, tensor in tensors.items()}, wanted):
            raise UserError(
                f"{source}: is not a file of this {self.config.type} adapter. {found}. It belongs to another model, "
                "encoder or kind of adapter: check adapter.name_or_path."
            )
        for name, tensor in tensors.items():
            must_be_finite_tensor(tensor, name, source=source)
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(tensors[name])

    def load_state_dict(self, tensors: StateDict, metadata: Mapping[str, str], *, source: str) -> None:
        """Load the content of a file. What its header says must match; it may say nothing.

        Raises:
            UserError: the file is of another adapter, model or encoder.
        """
        expected = {key: value for key, value in self.metadata().items() if key not in self.for_readers}
        must_match(metadata, expected, source=source)
        self.restore(tensors, source=source)

    @abstractmethod
    def describe(self) -> str:
        """One line: what is trained, and how many weights that is."""
