"""Gradient checkpointing: a block keeps its inputs only, and backward runs it again as it ran before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Generic, TypeVar

from torch import nn
from torch.utils.checkpoint import checkpoint

from toolkit.runtime.imports.without_compiler import run_plain

run_plain(checkpoint)

T = TypeVar("T")
Setting = Callable[[], AbstractContextManager[None]]

_settings: ContextVar[tuple[Setting, ...]] = ContextVar("settings", default=())


@contextmanager
def held_in_backward(setting: Setting) -> Iterator[None]:
    """For the length of a `with` block a setting holds, and again when backward recomputes what ran there.

    Args:
        setting: makes a context manager that puts it in force; called each time.
    """
    token = _settings.set((*_settings.get(), setting))
    try:
        with setting():
            yield
    finally:
        _settings.reset(token)


class BlockValue(Generic[T]):
    """A value that a `with` block sets, and sets again when backward recomputes what ran there.

    Attributes:
        value: the value now.
    """

    def __init__(self, value: T) -> None:
        self.value = value

    def set(self, value: T) -> AbstractContextManager[None]:
        """For the length of a `with` block this is the value."""
        return held_in_backward(partial(self._in_force, value))

    @contextmanager
    def _in_force(self, value: T) -> Iterator[None]:
        before, self.value = self.value, value
        try:
            yield
        finally:
            self.value = before


def checkpointed(block: nn.Module, *arguments: Any) -> Any:
    """Run a block and keep its inputs only; backward runs it again, under the same settings."""
    settings = _settings.get()
    return checkpoint(
        block.__call__, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), _in_force(settings))
    )


@contextmanager
def _in_force(settings: tuple[Setting, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for setting in settings:
            stack.enter_context(setting())
        yield
