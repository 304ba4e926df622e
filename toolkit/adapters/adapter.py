"""What every adapter does: it attaches itself to a loaded model, reads its inputs, and has weights that are trained."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from toolkit.models.base_model import BaseModel, StateDict
from toolkit.models.condition import Condition
from toolkit.randomness import Draws


@dataclass(frozen=True, eq=False)
class AdapterInputs:
    """What an adapter reads during one pass through the transformer.

    Attributes:
        num_noisy: number of tokens of the noisy image.
        view: features of a vision encoder, [B, M, E]; None turns the adapter off.
        control: clean latents of control pictures, all channels of the first, then of the second, [B, n * C, h, w], in
            image layout like the noisy latents; None for no control.
        target_sigma: noise level at which the step ends, [B], 0..1; None if that is not known.
        extras: further inputs by name.
    """

    num_noisy: int
    view: Tensor | None = None
    control: Tensor | None = None
    target_sigma: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)


class Adapter(Protocol):
    """An adapter of one job. Its weights are fp32 whatever the model's dtype; initially it changes nothing.

    Attributes:
        is_unconditional_off: whether the adapter is off in the unconditional pass of true guidance.
    """

    is_unconditional_off: bool

    def attach(self, model: BaseModel, draws: Draws) -> None:
        """Create the weights on the model's device, and hook into its transformer, which has its LoRA already.

        Raises:
            UserError: the model, or another adapter on it, does not go with this one.
        """
        ...

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Every trained weight exactly once, in a fixed order, under the names of the file."""
        ...

    def reading(self, inputs: AdapterInputs) -> AbstractContextManager[None]:
        """Within the `with` block the adapter works on these inputs; also when backward recomputes what ran there.

        Outside of such a block the adapter is off: the model predicts as without it.
        """
        ...

    def adapted(self, condition: Condition, inputs: AdapterInputs) -> Condition:
        """The condition that the model gets: most adapters return it as it is."""
        ...

    def scaled(self, factor: float) -> AbstractContextManager[None]:
        """Within the `with` block, what the adapter adds counts `factor` times; also when backward recomputes."""
        ...

    def state_dict(self) -> StateDict:
        """The content of the adapter's file: fp32 tensors under the file's keys."""
        ...

    def metadata(self) -> dict[str, str]:
        """What the file's header says for readers: sizes, encoder, places."""
        ...

    def load_state_dict(self, tensors: StateDict, metadata: Mapping[str, str], *, source: str) -> None:
        """Load the content of a file; every key and shape must be right.

        Raises:
            UserError: the file is of another adapter, model or encoder.
        """
        ...

    def describe(self) -> str:
        """One line: what is trained, and how many weights that is."""
        ...
