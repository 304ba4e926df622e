"""Chooses the layers of a model that get a network, using the job's filters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from toolkit.config import NetworkConfig
from toolkit.config.network import is_named
from toolkit.errors import UserError
from toolkit.lora.keys import targets_named
from toolkit.models.base_model import BaseModel, LoraTarget, SizedTarget
from toolkit.weights.tensor_index import index_tensors

T = TypeVar("T", bound=LoraTarget)


def choose_targets(model: BaseModel, config: NetworkConfig) -> list[LoraTarget]:
    """The layers of the loaded model that get a LoRA, in model order.

    `transformer_only` selects layers inside the blocks; `only_if_contains` and `ignore_if_contains` are matched against
    `transformer.<name in the released model>`, as in ai-toolkit, and against the names of the same layers in our
    library. An optional target is chosen only if `only_if_contains` or the file to start from names it.

    Raises:
        UserError: the filters leave no layer.
    """
    known = model.get_lora_targets()
    chosen = filtered(known, model.get_transformer_block_names(), config, also=start_targets(model, config))
    if not chosen:
        raise UserError(f"network.network_kwargs: {why_none(known, model.get_transformer_block_names(), config)}")
    return chosen


def planned_targets(
    model: BaseModel, config: NetworkConfig, *, known: Sequence[SizedTarget] | None = None
) -> list[SizedTarget] | None:
    """Like `choose_targets` for a model that is not loaded, with shapes.

    Args:
        model: the model, which need not be loaded.
        config: the `network` section with the filters.
        known: result of an earlier call of the model's `plan_lora_targets`, which reads the headers of large files.

    Returns:
        The targets, empty if the filters leave none; None if the model cannot list its layers.
    """
    known = model.plan_lora_targets() if known is None else known
    if not known:
        return None
    return filtered(known, model.get_transformer_block_names(), config, also=start_targets(model, config))


def start_targets(model: BaseModel, config: NetworkConfig) -> set[str]:
    """The targets in the LoRA file that a job starts from; empty if there is none. Reads only the file's header."""
    path = config.pretrained_lora_path
    return set() if path is None else targets_named(index_tensors([path]).entries, model.locate_layer)


def by_run(
    targets: Sequence[SizedTarget], block_lists: Sequence[str], count: Callable[[SizedTarget], int]
) -> tuple[int, ...]:
    """A number for each target, summed over each list of blocks, then over the layers outside blocks."""
    sums = dict.fromkeys([*block_lists, ""], 0)
    for target in targets:
        blocks = next((name for name in block_lists if target.name.startswith(f"{name}.")), "")
        sums[blocks] += count(target)
    return tuple(sums.values())


def filtered(
    targets: Sequence[T], block_lists: Sequence[str], config: NetworkConfig, *, also: Collection[str] = ()
) -> list[T]:
    """The targets that pass the filters of a job; see `choose_targets`.

    Args:
        targets: all targets of the model.
        block_lists: names of the model's lists of blocks.
        config: the `network` section with the filters.
        also: names of optional targets to include even if no filter names them.
    """
    blocks = tuple(f"{name}." for name in block_lists)
    only, ignore = config.network_kwargs.only_if_contains, config.network_kwargs.ignore_if_contains

    def is_wanted(target: T) -> bool:
        if target.is_optional and target.name not in also and not any(matches(target, part) for part in only):
            return False
        if config.transformer_only and not target.name.startswith(blocks):
            return False
        if only and not any(matches(target, part) for part in only):
            return False
        return not any(matches(target, part) for part in ignore)

    return [target for target in targets if is_wanted(target)]


def matches(target: LoraTarget, pattern: str) -> bool:
    """Whether a filter pattern is part of one of the layer's names."""
    return is_named(target, (pattern,))


def why_none(known: Sequence[LoraTarget], block_lists: Sequence[str], config: NetworkConfig) -> str:
    """Why the filters leave no layer, and what to change."""
    text = "the filters leave no layer to train."
    everywhere = filtered(known, block_lists, config.model_copy(update={"transformer_only": False}))
    if config.transformer_only and everywhere:
        return (
            f"{text} transformer_only selects only layers inside the blocks, and what the filters match, such as "
            f"`transformer.{everywhere[0].name}`, is outside them: set `network.transformer_only: false`."
        )
    kwargs = config.network_kwargs
    if kwargs.ignore_if_contains and kwargs.only_if_contains:
        without = kwargs.model_copy(update={"ignore_if_contains": ()})
        if filtered(known, block_lists, config.model_copy(update={"network_kwargs": without})):
            return f"{text} ignore_if_contains excludes everything that only_if_contains selects: remove one of them."
    return f"{text} Names look like `transformer.{known[0].name}` or `transformer.{known[0].modules[0]}`."
