"""Ends the drawing of a picture within one pass of the transformer when the user asks to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn


class StopDrawing(Exception):
    """Ends a round of pictures early because a stop was requested."""


@contextlib.contextmanager
def ends_on(transformer: nn.Module, is_asked: Callable[[], bool]) -> Iterator[None]:
    """Put the transformer in eval mode; leave the block at the first forward pass after a stop is requested.

    Args:
        transformer: the transformer that draws.
        is_asked: whether a stop is requested, now.
    """

    def look(*_: Any) -> None:
        if is_asked():
            raise StopDrawing

    transformer.eval()
    handle = transformer.register_forward_pre_hook(look)
    try:
        with contextlib.suppress(StopDrawing):
            yield
    finally:
        handle.remove()
        transformer.train()
