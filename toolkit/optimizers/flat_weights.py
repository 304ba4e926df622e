"""Small weights in a few long tensors, so that an optimizer's step takes as few operators as for a single weight.

Outside the step nothing of it is seen: the optimizer holds each weight and its state, which are views of the long ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

# Larger weights stay as they are: their operators do not wait for the host, and joining gradients copies them.
LARGEST = 1 << 22


class FlatWeights:
    """The weights of an optimizer that updates each number by itself, wherever it is in its tensor.

    Args:
        optimizer: the optimizer, whose groups hold the weights.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._rows = [_rows_of_group(optimizer, group["params"]) for group in optimizer.param_groups]

    @contextmanager
    def joined(self) -> Iterator[list[Tensor]]:
        """Within the `with` block, the optimizer holds the long tensors, and they the gradients; gives all it holds.

        A row of weights is left as it is where one of them has no gradient, which an optimizer takes for another thing
        than a gradient of zero, or has been updated another number of times.
        """
        groups = self.optimizer.param_groups
        own = [group["params"] for group in groups]
        joined: list[_Row] = []
        for group, rows in zip(groups, self._rows, strict=True):
            ready = [row for row in rows if row.join()]
            inside = {id(weight) for row in ready for weight in row.weights}
            group["params"] = [row.flat for row in ready] + [w for w in group["params"] if id(w) not in inside]
            joined += ready
        try:
            yield [weight for group in groups for weight in group["params"]]
        finally:
            for group, weights in zip(groups, own, strict=True):
                group["params"] = weights
            for row in joined:
                row.part()


def _rows_of_group(optimizer: torch.optim.Optimizer, weights: Sequence[nn.Parameter]) -> list[_Row]:
    """The rows of one group: one for each device and dtype."""
    found: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
    for weight in weights:
        if weight.ndim and weight.numel() <= LARGEST:
            found.setdefault((weight.device, weight.dtype), []).append(weight)
    return [_Row(optimizer, own) for own in found.values() if len(own) > 1]


class _Row:
    """Some weights, one after another in one tensor.

    Attributes:
        weights: the weights.
        flat: the tensor.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, weights: Sequence[nn.Parameter]) -> None:
        self.weights = list(weights)
        ends = (0, *accumulate(weight.numel() for weight in weights))
        self.slices = [slice(begin, end) for begin, end in pairwise(ends)]
        self.optimizer = optimizer
        self._collect()
        self._state: dict[str, Any] = {}
        self._seen: dict[str, Any] = {}  # what it was when each weight was given its part
        self._given: list[dict[str, Any]] | None = None  # the state of each weight, as views of that of the row

    def join(self) -> bool:
        """Move the gradients to the row, and give the optimizer its state. False: nothing has been done."""
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        if len(gradients) < len(self.weights) or not self._has_state():
            self._leave()
            return False
        if any(weight.data_ptr() != address for weight, address in zip(self.weights, self._addresses, strict=True)):
            self._collect()  # something has given a weight another memory
        self.flat.grad = torch.cat([gradient.flatten() for gradient in gradients])
        for weight in self.weights:
            weight.grad = None
        if self._state:
            self.optimizer.state[self.flat] = self._state
        return True

    def part(self) -> None:
        """Take the state from the optimizer again, and let each weight have its part of it."""
        self.flat.grad = None
        state = self.optimizer.state.pop(self.flat, {})
        is_same = self._given is not None and state.keys() == self._state.keys()
        if not is_same or any(state[name] is not value for name, value in self._seen.items()):
            self._given = [self._part_of(state, weight, part) for weight, part in self._with_slices()]
            self.optimizer.state.update(zip(self.weights, self._given, strict=True))
        self._state, self._seen = state, dict(state)

    def _collect(self) -> None:
        values = torch.cat([weight.detach().flatten() for weight in self.weights])
        for weight, part in self._with_slices():
            weight.data = values[part].view(weight.shape)
        self.flat = nn.Parameter(values)
        self._addresses = [weight.data_ptr() for weight in self.weights]

    def _has_state(self) -> bool:
        """Whether the row has the state of its weights, or could be given it."""
        states = [self.optimizer.state.get(weight) for weight in self.weights]
        if self._given is not None and all(a is b for a, b in zip(states, self._given, strict=True)):
            return True
        known = [state for state in states if state]
        if known and len(known) < len(states):
            return False
        state: dict[str, Any] = {}
        for name in known[0] if known else ():
            values = [own.get(name) for own in known]
            joined = _joined(values, self.weights)
            if joined is None:
                return False
            state[name] = joined
        self._state, self._seen, self._given = state, dict(state), None
        return True

    def _leave(self) -> None:
        """Let each weight have a state of its own again: from now on they are updated apart."""
        if self._given is None:
            return
        for weight, given in zip(self.weights, self._given, strict=True):
            if self.optimizer.state.get(weight) is given:
                own = {name: value.clone() if isinstance(value, Tensor) else value for name, value in given.items()}
                self.optimizer.state[weight] = own
        self._state, self._seen, self._given = {}, {}, None

    def _with_slices(self) -> Iterator[tuple[nn.Parameter, slice]]:
        return zip(self.weights, self.slices, strict=True)

    def _part_of(self, state: dict[str, Any], weight: Tensor, part: slice) -> dict[str, Any]:
        return {
            name: value[part].view(weight.shape)
            if isinstance(value, Tensor) and value.shape == self.flat.shape
            else value
            for name, value in state.items()
        }


def _joined(values: Sequence[Any], weights: Sequence[Tensor]) -> Any:
    """One entry of the joined state, from the states of the weights; None if they differ in what they share."""
    if all(isinstance(value, Tensor) and value.shape == w.shape for value, w in zip(values, weights, strict=True)):
        return torch.cat([value.flatten() for value in values])
    first = values[0]
    if isinstance(first, Tensor):
        is_equal = all(isinstance(value, Tensor) and torch.equal(value, first) for value in values)
        return first.clone() if is_equal else None
    return first if all(type(value) is type(first) and value == first for value in values) else None
