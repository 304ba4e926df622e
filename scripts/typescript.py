"""TypeScript types from the JSON schemas of pydantic models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_ANYTHING = "unknown"


def types(models: Sequence[type[BaseModel]], mode: Literal["validation", "serialization"] = "serialization") -> str:
    """An `export interface` for each model and for each that they hold, in alphabetical order.

    Args:
        models: the models.
        mode: `validation`: as they are sent, where keys with a default may be left out; `serialization`: as answered.
    """
    _, shared = models_json_schema([(model, mode) for model in models], ref_template="{model}")
    return "\n\n".join(_declaration(name, schema) for name, schema in sorted(shared.get("$defs", {}).items())) + "\n"


def _declaration(name: str, schema: Mapping[str, Any]) -> str:
    comment = _comment(schema.get("description", ""), "")
    if schema.get("type") != "object" or "properties" not in schema:
        return f"{comment}export type {name} = {_type(schema)};"
    required = set(schema.get("required", ()))
    lines = []
    for key, inner in schema["properties"].items():
        mark = "" if key in required else "?"
        lines.append(f"{_comment(inner.get('description', ''), '  ')}  {key}{mark}: {_type(inner)};")
    return f"{comment}export interface {name} {{\n" + "\n".join(lines) + "\n}"


def _comment(text: str, indent: str) -> str:
    first = text.partition("\n\n")[0].replace("\n", " ").replace("*/", "* /").strip()
    return f"{indent}/** {first} */\n" if first else ""


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(inner) for inner in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        inner = _type(schema.get("items", {}))
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if kind == "object":
        values = schema.get("additionalProperties", {})
        return f"Record<string, {_type(values) if isinstance(values, Mapping) else _ANYTHING}>"
    return _PLAIN.get(str(kind), _ANYTHING)
