"""What an adapter reads during a pass through the transformer, also when backward runs a block again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from toolkit.adapters.adapter import AdapterInputs
from toolkit.memory.recompute import BlockValue
from toolkit.models.base_model import BaseModel

_is_unconditional: ContextVar[bool] = ContextVar("is_unconditional", default=False)


@dataclass(eq=False)
class _Pass:
    inputs: AdapterInputs
    num_text: int = 0
    positions: Tensor | None = None
    noisy_positions: Tensor | None = None


class Reading:
    """The inputs of one adapter. `inputs` is None while the adapter is off.

    Args:
        is_unconditional_off: whether the adapter is off in the unconditional pass of true guidance.
    """

    def __init__(self, *, is_unconditional_off: bool) -> None:
        self._is_unconditional_off = is_unconditional_off
        self._pass: BlockValue[_Pass | None] = BlockValue(None)
        self._noisy: Any = None

    def attach(self, model: BaseModel) -> None:
        """Learn, before each pass, how many tokens the prompt has."""
        self._noisy = model.noisy_tokens
        model.transformer.register_forward_pre_hook(self._begin, with_kwargs=True)

    def on(self, inputs: AdapterInputs) -> AbstractContextManager[None]:
        """Within the `with` block these are the inputs; also when backward recomputes what ran there."""
        return self._pass.set(_Pass(inputs))

    @property
    def inputs(self) -> AdapterInputs | None:
        """The inputs of the current pass."""
        if self._pass.value is None or (self._is_unconditional_off and _is_unconditional.get()):
            return None
        return self._pass.value.inputs

    def noisy_tokens(self, num_tokens: int, *, is_joint: bool) -> slice:
        """Where the tokens of the noisy image are.

        Args:
            num_tokens: length of the sequence.
            is_joint: whether the sequence begins with the prompt.
        """
        current = self._pass.value
        assert current is not None, "the adapter is on"
        first = current.num_text if is_joint else 0
        found: slice = self._noisy(current.inputs.num_noisy, num_tokens - first)
        return slice(first + found.start, first + found.stop)

    @property
    def noisy_positions(self) -> Tensor:
        """Positions of the tokens of the noisy image, [S, axes], as the model was given them; one tensor per pass."""
        current = self._pass.value
        assert current is not None and current.positions is not None, "the transformer is running"
        if current.noisy_positions is None:
            # Some pipelines give one list for each example; all are the same.
            positions = current.positions[0] if current.positions.ndim == 3 else current.positions
            current.noisy_positions = positions[self.noisy_tokens(len(positions), is_joint=False)]
        return current.noisy_positions

    def _begin(self, module: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if self._pass.value is not None:
            self._pass.value.num_text = named["encoder_hidden_states"].shape[1]
            if self._pass.value.positions is not named.get("img_ids"):
                self._pass.value.positions, self._pass.value.noisy_positions = named.get("img_ids"), None


@contextmanager
def unconditional_passes_marked(transformer: Any) -> Iterator[None]:
    """Within the block, adapters know a pipeline's unconditional passes: diffusers' pipelines name their passes."""
    name_pass = transformer.cache_context

    @contextmanager
    def cache_context(name: str) -> Iterator[None]:
        token = _is_unconditional.set(name == "uncond")
        try:
            with name_pass(name):
                yield
        finally:
            _is_unconditional.reset(token)

    transformer.cache_context = cache_context
    try:
        yield
    finally:
        del transformer.cache_context
