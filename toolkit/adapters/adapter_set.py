"""The adapters of a run as one value; a run without adapters has an empty set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from toolkit.adapters.adapter import Adapter, AdapterInputs
from toolkit.adapters.reading import unconditional_passes_marked
from toolkit.adapters.step_ends import following
from toolkit.models.condition import Condition, SampleCondition


@dataclass(frozen=True)
class AdapterSet:
    """Adapters that are attached to a model, in the order of the job file."""

    adapters: Sequence[Adapter] = ()

    @contextmanager
    def reading(self, condition: Condition, *, num_noisy: int) -> Iterator[Condition]:
        """Within the block every adapter works on its inputs; yields the condition that the model gets.

        Args:
            condition: the condition; its extras hold the adapters' inputs under `view_name` and so on.
            num_noisy: number of tokens of the noisy image.
        """
        with ExitStack() as stack:
            for index, adapter in enumerate(self.adapters):
                inputs = inputs_of(index, condition.extras, num_noisy=num_noisy)
                stack.enter_context(adapter.reading(inputs))
                condition = adapter.adapted(condition, inputs)
            yield condition

    @contextmanager
    def sampling(self, condition: SampleCondition, prompt: str, *, num_noisy: int) -> Iterator[SampleCondition]:
        """Like `reading`, for one sample; only the embeddings of `prompt` are adapted, not those of what to avoid."""
        if not self.adapters:
            yield condition
            return
        extras = {name: tensor.unsqueeze(0) for name, tensor in condition.extras.items()}
        embeds = condition.prompt_embeds[prompt].unsqueeze(0)  # [1, L, D]
        with self.reading(Condition(embeds, extras=extras), num_noisy=num_noisy) as adapted:
            changed = {**condition.prompt_embeds, prompt: adapted.prompt_embeds[0]}
            yield replace(condition, prompt_embeds=changed)

    def telling_passes_apart(self, transformer: Any) -> AbstractContextManager[None]:
        """Within the block, adapters are off in the unconditional passes of a pipeline if they are meant to be."""
        return unconditional_passes_marked(transformer) if self.adapters else nullcontext()

    def following(self, pipeline: Any) -> AbstractContextManager[None]:
        """Within the block, adapters know where each step of a diffusers pipeline ends."""
        return following(pipeline) if self.adapters else nullcontext()

    @contextmanager
    def scaled(self, factor: float) -> Iterator[None]:
        """Within the block, what all adapters add counts `factor` times."""
        with ExitStack() as stack:
            for adapter in self.adapters:
                stack.enter_context(adapter.scaled(factor))
            yield


def view_name(index: int) -> str:
    """Name, among a condition's extras, of the view that adapter number `index` of the job reads."""
    return f"adapter.{index}.view"


def control_name(index: int) -> str:
    """Name of the control pictures of adapter number `index`."""
    return f"adapter.{index}.control"


TARGET_SIGMA = "target_sigma"


def inputs_of(index: int, extras: Mapping[str, Tensor], *, num_noisy: int) -> AdapterInputs:
    """The inputs of adapter number `index` among a condition's extras."""
    view, control = extras.get(view_name(index)), extras.get(control_name(index))
    return AdapterInputs(num_noisy, view=view, control=control, target_sigma=extras.get(TARGET_SIGMA))
