"""Which weights of the transformer a full fine-tune trains: the filters `model.only_if_contains` and `ignore_...`."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel


def choose_weights(model: BaseModel, only: Sequence[str], ignore: Sequence[str]) -> frozenset[str]:
    """The names of the weights of the loaded transformer that pass the filters.

    A filter is matched against `transformer.<name>`, with the name in our library, and for linear layers also with the
    one in the released model, as the filters of a network are.

    Args:
        model: a model whose transformer is loaded.
        only: parts of names; empty for all weights.
        ignore: parts of names that are left out.

    Raises:
        UserError: a filter matches no weight, or nothing is left.
    """
    names = {name: _names(model, name) for name, _ in model.transformer.named_parameters()}
    for key, patterns in (("only_if_contains", only), ("ignore_if_contains", ignore)):
        for pattern in patterns:
            if not any(_has(spelled, (pattern,)) for spelled in names.values()):
                shown = next(iter(names.values()))
                raise UserError(f"model.{key}: `{pattern}` matches no weight. Names look like {' or '.join(shown)}.")
    chosen = {n for n, spelled in names.items() if (not only or _has(spelled, only)) and not _has(spelled, ignore)}
    if not chosen:
        raise UserError("model.ignore_if_contains: excludes everything that only_if_contains selects. Remove one.")
    return frozenset(chosen)


def _names(model: BaseModel, name: str) -> list[str]:
    layer, _, leaf = name.rpartition(".")
    where = model.locate_layer(layer)
    released = [] if where is None else [f"transformer.{target}.{leaf}" for target in where.shares()]
    return [f"transformer.{name}", *released]


def _has(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(pattern in name for pattern in patterns for name in names)
