"""Seeds in a job file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _not_random(value: Any) -> Any:
    if value in (-1, "-1"):
        raise ValueError(
            "-1 is a random seed in other programs. Here every run can be repeated: write a number from 0 on, or leave "
            "the key out"
        )
    return value


Seed = Annotated[int, Field(ge=0), BeforeValidator(_not_random, json_schema_input_type=int)]
