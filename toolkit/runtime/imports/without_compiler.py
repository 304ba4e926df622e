"""Lets torch's optimizers and checkpoints run without loading torch's compiler, which takes longer than torch itself.

torch marks them as not to be compiled, and loads the compiler to place the mark. While it is not loaded, nothing is
compiled, and what they compute is the same.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any


def run_plain(function: Any) -> None:
    """Let a function run without its mark. Changes nothing if it has none, or if the compiler is loaded."""
    if not _is_loaded() and getattr(function, "__globals__", {}).get("__name__") == "torch._compile":
        vars(function.__wrapped__).setdefault("__dynamo_disable", function.__wrapped__)


def without_compiler(kind: Any) -> Any:
    """A class of optimizers that does not load the compiler, and updates weights as the given one does.

    Args:
        kind: a class, or a function that makes an optimizer, which stays as it is.
    """
    if _is_loaded() or not isinstance(kind, type):
        return kind
    for method in [method for base in kind.__mro__ for method in vars(base).values()]:
        run_plain(method)
    if not kind.__module__.startswith("torch.optim."):
        return kind
    import torch

    step = torch.no_grad()(inspect.unwrap(kind.step))  # type: ignore[attr-defined]  # torch's wrapper turns gradients off, too, and tells the compiler
    return type(kind.__name__, (kind,), {"step": step, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _is_loaded() -> bool:
    return "torch._dynamo" in sys.modules
