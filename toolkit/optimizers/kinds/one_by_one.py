"""The loop that optimizers share which update each weight by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class OneByOne(torch.optim.Optimizer):
    """Updates one weight after another; weights must be fp32."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "closures are not supported"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad.float(), self.state[parameter], group)

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change one weight in place.

        Args:
            parameter: the weight.
            gradient: its gradient in fp32, which must not be changed.
            state: its state; empty before the first step.
            group: the settings of its group.
        """
        raise NotImplementedError
