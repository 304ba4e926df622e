"""A minimal model of your own; docs/extensions.md walks through it."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "AI_TOOLKIT_MODELS":
        raise AttributeError(name)
    from extensions.example_model.example_model import ExampleModel

    return [ExampleModel]
