"""The field type for seeds in a job file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _not_random(value: Any) -> Any:
    if value in (-1, "-1"):
        raise ValueError(
            "-1 means a random seed in other programs. Here every run is reproducible: write 0 or a larger number, or "
            "remove the key"
        )
    return value


Seed = Annotated[int, Field(ge=0), BeforeValidator(_not_random, json_schema_input_type=int)]
DrawSeed = Annotated[int, Field(ge=-1)]
"""The seed of a picture; -1 stands for a random one, which the picture and the event log then tell."""
