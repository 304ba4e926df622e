"""What the optimizers of our own share: settings with defaults, and the loop of those that update weights apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor


class Configured(torch.optim.Optimizer):
    """An optimizer whose constructor takes the weights and any of its settings.

    Attributes:
        settings: every setting with its default.
    """

    settings: ClassVar[Mapping[str, Any]]

    def __init__(self, params: Iterable[Any], **options: Any) -> None:
        if strange := sorted(options.keys() - self.settings.keys()):
            raise TypeError(f"unknown: {', '.join(strange)}")
        super().__init__(params, {**self.settings, **options})


class OneByOne(Configured):
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
