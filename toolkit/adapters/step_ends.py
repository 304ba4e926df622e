"""The noise level at which a sampler's current step ends, for adapters that give it to the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

_pipeline: ContextVar[Any] = ContextVar("pipeline", default=None)


@contextmanager
def following(pipeline: Any) -> Iterator[None]:
    """Within the block, `next_sigma` is that of this diffusers pipeline's scheduler."""
    token = _pipeline.set(pipeline)
    try:
        yield
    finally:
        _pipeline.reset(token)


def next_sigma() -> Tensor | None:
    """The noise level at which the pipeline's current step ends, a scalar; None if no pipeline is followed."""
    pipeline = _pipeline.get()
    if pipeline is None:
        return None
    scheduler = pipeline.scheduler
    # A scheduler counts from its first step on; before that, a pipeline may have said where to begin.
    index = scheduler.step_index if scheduler.step_index is not None else scheduler.begin_index or 0
    sigma: Tensor = scheduler.sigmas[index + 1]
    return sigma
