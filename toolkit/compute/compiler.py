"""Compiles functions with torch's compiler, once for all numbers of tokens, until one of them cannot be compiled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_FIRST_FIXED = 2  # batch and tokens vary from call to call; all sizes after them belong to the model
# Kinds of call of one function: kept or overwritten values, one sample or several, strides of what it is given.
_MOST_GRAPHS = 64
# Which code is made must not depend on the size that comes first, nor on measurements: another start makes the same.
_OPTIONS: dict[str, Any] = {"deterministic": True, "split_reductions": False}
_thread = threading.local()  # is_set: whether the compiler's settings, of which each thread has its own, are in place


class Compiler:
    """Compiles the functions of one run; from the first that fails on, all of them run as they are written.

    Args:
        notify: called with lines for the user on what is compiled.
        warn: called with a line for the user when something is not compiled.
        folder: where compiled code is kept for later starts, unless the environment says; None for torch's own.
        backend: what makes code of what torch's compiler has traced; `eager` runs it as it was traced.

    Attributes:
        has_failed: whether functions run as they are written.
    """

    def __init__(
        self,
        *,
        notify: Callable[[str], None],
        warn: Callable[[str], None],
        folder: Path | None = None,
        backend: str = "inductor",
    ) -> None:
        self.notify = notify
        self.warn = warn
        self.has_failed = False
        self._options: dict[str, Any] = {"options": _OPTIONS} if backend == "inductor" else {}
        self._options["backend"] = backend
        if folder is not None:
            _keep_in(folder)

    def compiled(self, function: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """A function of tensors [batch, tokens, ...] that autograd does not see, compiled at its first call.

        Args:
            function: what is compiled. What it does depends on its arguments only.
            otherwise: called in its place, with the same arguments, once compiling has failed.
        """
        fast = torch.compile(function, fullgraph=True, dynamic=True, **self._options)

        def call(*arguments: Any) -> Any:
            if self.has_failed:
                return otherwise(*arguments)
            if not getattr(_thread, "is_set", False):
                _set_up()
            try:
                return fast(*map(_plain, arguments))
            except _failures() as error:
                self._fail(error)
                return otherwise(*arguments)

        return call

    def _fail(self, error: Exception) -> None:
        self.has_failed = True
        self.warn(
            "model.compile: compiling failed, so the run continues without it; the last digits of its numbers will "
            "differ from here on: {str(error).strip().splitlines()[0]}"
        )


def _keep_in(folder: Path) -> None:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(_CACHE, default_cache_dir()) == default_cache_dir():  # torch sets it, too, when it is loaded
        os.environ[_CACHE] = str(folder)


def _plain(argument: Any) -> Any:
    """The argument, without what would have it compiled once more, and with constants for all sizes but the first."""
    if not isinstance(argument, Tensor):
        return argument
    argument = argument.detach() if argument.requires_grad else argument
    for size in range(_FIRST_FIXED, argument.ndim):
        torch._dynamo.mark_static(argument, size)
    return argument


def _failures() -> tuple[type[Exception], ...]:
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return TorchDynamoException, FailOnRecompileLimitHit


def _set_up() -> None:
    """Put the compiler's settings in place for this thread: backward may run on another one than forward."""
    from torch._dynamo import config
    from torch.fx.experimental import _config as shapes

    config.recompile_limit = _MOST_GRAPHS
    config.specialize_float = True  # such as the eps of a norm
    shapes.use_duck_shape = False  # that two sizes are equal in the first call does not mean that they always are
    _thread.is_set = True
