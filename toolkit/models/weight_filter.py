"""Which weights of the transformer a full fine-tune trains: the filters `model.only_if_contains` and `ignore_...`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from toolkit.errors import UserError
from toolkit.memory.placement import block_names
from toolkit.models.base_model import BaseModel


def choose_weights(
    model: BaseModel, only: Sequence[str], ignore: Sequence[str], *, transformer: nn.Module | None = None
) -> frozenset[str]:
    """The names of the weights of the transformer that pass the filters.

    A filter is matched against `transformer.<name>`, with the name in our library, and for linear layers also with the
    one in the released model, as the filters of a network are.

    Args:
        model: a model.
        only: parts of names; empty for all weights.
        ignore: parts of names that are left out.
        transformer: its transformer, which may be on the meta device; None for the one that is loaded.

    Raises:
        UserError: a filter matches no weight, or nothing is left.
    """
    module = model.transformer if transformer is None else transformer
    names = {name: _names(model, name) for name, _ in module.named_parameters()}
    for key, patterns in (("only_if_contains", only), ("ignore_if_contains", ignore)):
        for pattern in patterns:
            if not any(_has(spelled, (pattern,)) for spelled in names.values()):
                shown = next(iter(names.values()))
                raise UserError(f"model.{key}: `{pattern}` matches no weight. Names look like {' or '.join(shown)}.")
    chosen = {n for n, spelled in names.items() if (not only or _has(spelled, only)) and not _has(spelled, ignore)}
    if not chosen:
        raise UserError("model.ignore_if_contains: excludes everything that only_if_contains selects. Remove one.")
    return frozenset(chosen)


def count_chosen(model: BaseModel, only: Sequence[str], ignore: Sequence[str]) -> tuple[int, ...]:
    """How many weights pass the filters: in each list of blocks, then outside blocks. Loads no model.

    Returns:
        The counts; empty if there is no filter, or the transformer is not known before it is loaded.

    Raises:
        UserError: see `choose_weights`.
    """
    transformer = model.plan_transformer() if only or ignore else None
    if transformer is None:
        return ()
    chosen = choose_weights(model, only, ignore, transformer=transformer)
    counts = dict.fromkeys([*(name.rpartition(".")[0] for name in block_names(transformer)), ""], 0)
    for name, parameter in transformer.named_parameters():
        if name in chosen:
            counts[next((blocks for blocks in counts if blocks and name.startswith(f"{blocks}.")), "")] += (
                parameter.numel()
            )
    return tuple(counts.values())


def _names(model: BaseModel, name: str) -> list[str]:
    layer, _, leaf = name.rpartition(".")
    where = model.locate_layer(layer)
    released = [] if where is None else [f"transformer.{target}.{leaf}" for target in where.shares()]
    return [f"transformer.{name}", *released]


def _has(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(pattern in name for pattern in patterns for name in names)
