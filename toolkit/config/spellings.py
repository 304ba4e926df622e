"""Values that users spell in several ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, eq=False)
class Spellings:
    """Annotation of a `Literal`: capitals do not matter, and each key of `others` is read as its value."""

    others: Mapping[str, str]

    def canonical(self, value: Any) -> Any:
        """The spelling that the rest of the program knows."""
        if not isinstance(value, str):
            return value
        value = value.strip().lower()
        return self.others.get(value, value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.canonical, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        values = json_schema.pop("enum", None) or [json_schema.pop("const")]
        return {**json_schema, "enum": [*values, *self.others]}


Dtype = Annotated[
    Literal["bf16", "fp16", "fp32"],
    Spellings({"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32"}),
]
