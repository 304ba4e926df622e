"""A model of your own, as small as it gets; docs/extensions.md goes through it."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "AI_TOOLKIT_MODELS":
        raise AttributeError(name)
    from extensions.example_model.example_model import ExampleModel

    return [ExampleModel]
