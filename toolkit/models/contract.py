"""Checks, when a model class is defined, that it answers everything a model must."""

from __future__ import annotations

import inspect
from typing import Any


def check_answers(model: type[Any]) -> None:
    """Check that a model class sets `arch` and implements every abstract method of its bases.

    Raises:
        TypeError: something is missing; everything missing is listed with its purpose.
    """
    missing = [f"{name}{_arguments(model, name)}: {_purpose(model, name)}" for name in _unanswered(model)]
    if not isinstance(getattr(model, "arch", None), str):
        missing.insert(0, "arch: the model's name in job files, as on its card")
    if missing:
        questions = "\n".join(f"    {line}" for line in missing)
        raise TypeError(
            f"{model.__module__}.{model.__qualname__} is not a complete model: {len(missing)} things that every model "
            f"must define are missing (see docs/extensions.md)\n{questions}\n"
            f"  If only its subclasses are models, write `class {model.__name__}(..., is_abstract=True)`."
        )


def _unanswered(model: type[Any]) -> list[str]:
    """Names of the methods that are still abstract, in the order in which the base class declares them."""
    asked = dict.fromkeys(name for base in reversed(model.__mro__) for name in vars(base))
    return [name for name in asked if getattr(inspect.getattr_static(model, name), "__isabstractmethod__", False)]


def _arguments(model: type[Any], name: str) -> str:
    signature = inspect.signature(getattr(model, name))
    return f"({', '.join(parameter for parameter in signature.parameters if parameter not in ('self', 'cls'))})"


def _purpose(model: type[Any], name: str) -> str:
    return (inspect.getdoc(getattr(model, name)) or "").partition("\n")[0]
