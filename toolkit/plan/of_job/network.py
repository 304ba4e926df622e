"""What the memory plan needs to know about a job's network: trained weights, and what is kept for them."""

from __future__ import annotations

from typing import Any

from toolkit.config import NetworkConfig
from toolkit.model_size import TransformerSize
from toolkit.networks.choices import NETWORKS
from toolkit.networks.kept import nothing
from toolkit.networks.settings import Shape
from toolkit.plan.plan_inputs import KeptInBlock


def network_inputs(
    network: NetworkConfig,
    size: TransformerSize,
    *,
    is_mixed: bool,
    sides: tuple[int, ...] | None = None,
    fixed: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """What `PlanInputs` says about a network.

    Args:
        network: the job's `network` section.
        size: the size of the transformer.
        is_mixed: whether autocast is on.
        sides, fixed: `PlanInputs.lora_sides` and `fixed_weights`; None: every layer that can carry a network does.
    """
    if sides is None:
        sides, fixed = _network_weights(network, size)
    kept = _kept(network, size, sides, fixed, is_mixed=is_mixed)
    return {"lora_rank": network.linear, "lora_sides": sides, "fixed_weights": fixed or (), "kept": kept}


def _network_weights(
    network: NetworkConfig, size: TransformerSize
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """`lora_sides` and `fixed_weights` of a network of one kind on every layer that can carry one."""
    kind = NETWORKS[network.type]
    if kind.is_proportional:
        return None, None
    runs = [list(block.linears) * block.count for block in size.blocks]
    runs.append([] if network.transformer_only else list(size.outer_linears))
    _, settings = network.at(None)
    fixed = tuple(sum(kind.count(Shape(*linear), settings) for linear in run) for run in runs)
    return (0,) * len(runs), fixed


def _kept(
    network: NetworkConfig,
    size: TransformerSize,
    sides: tuple[int, ...] | None,
    fixed: tuple[int, ...] | None,
    *,
    is_mixed: bool,
) -> dict[str, KeptInBlock]:
    """What a network of one kind keeps; on some of the layers, as much of it as of the weights is trained."""
    kind, settings = network.at(None)
    row, found = NETWORKS[kind], {}
    if row.kept is nothing:
        return {}
    for index, block in enumerate(size.blocks):
        fused = block.fused or (1,) * len(block.linears)
        seen = block.shares or (1.0,) * len(block.linears)
        shapes = [Shape(*linear, parts) for linear, parts in zip(block.linears, fused, strict=True)]
        layers = [row.kept(shape, settings, is_mixed=is_mixed) for shape in shapes]
        whole = block.count * sum(row.count(shape, settings) for shape in shapes)
        trained = whole if sides is None else settings.rank * sides[index] + (fixed[index] if fixed else 0)
        share = min(1.0, trained / whole) if whole else 0.0
        found[block.name] = KeptInBlock(
            per_token=share * sum(part * layer.per_token for part, layer in zip(seen, layers, strict=True)),
            held=share * sum(layer.held for layer in layers),
            # Under autocast a block is fullest at its last layers; in fp32 in its attention, when they are done.
            passing=share * (max(layer.passing for layer in layers) if is_mixed else -seen[-1] * layers[-1].per_token),
        )
    return found
