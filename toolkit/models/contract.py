"""What a model class must answer, compared with what it does when the class is made."""

from __future__ import annotations

import inspect
from typing import Any


def check_answers(model: type[Any]) -> None:
    """Make sure that a model class has its name and an answer to every question marked as abstract in its bases.

    Raises:
        TypeError: answers are missing; all are listed, each with what it is for.
    """
    missing = [f"{name}{_arguments(model, name)}: {_purpose(model, name)}" for name in _unanswered(model)]
    if not isinstance(getattr(model, "arch", None), str):
        missing.insert(0, "arch: the name that job files say, as on its card")
    if missing:
        questions = "\n".join(f"    {line}" for line in missing)
        raise TypeError(
            f"{model.__module__}.{model.__qualname__} is not a whole model: it lacks {len(missing)} of the answers "
            f"that every model gives (docs/extensions.md)\n{questions}\n"
            f"  Where only its subclasses are models, say `class {model.__name__}(..., is_abstract=True)`."
        )


def _unanswered(model: type[Any]) -> list[str]:
    """Names of the abstract methods, in the order in which the base class asks them."""
    asked = dict.fromkeys(name for base in reversed(model.__mro__) for name in vars(base))
    return [name for name in asked if getattr(inspect.getattr_static(model, name), "__isabstractmethod__", False)]


def _arguments(model: type[Any], name: str) -> str:
    signature = inspect.signature(getattr(model, name))
    return f"({', '.join(parameter for parameter in signature.parameters if parameter not in ('self', 'cls'))})"


def _purpose(model: type[Any], name: str) -> str:
    return (inspect.getdoc(getattr(model, name)) or "").partition("\n")[0]
