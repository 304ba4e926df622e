"""Cuts the tensors of one layer, of any kind, into those of some of its rows, and joins them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.keys import Layer
from toolkit.lora.update import FusedLocation, LayerLocation, Location, must_be_finite_tensor

# Tensors by the end of their key in a file, with every scale folded in.
Roles = dict[str, Tensor]
Range = tuple[int, int]

# What `toolkit.lora.keys` calls the tensors that are named here by the end of their key.
_ROLES = {"a": "lora_A.weight", "b": "lora_B.weight", "magnitude": "dora_scale"}
_SCALED_BY = ("lokr_w1", "lokr_w1_b", "hada_w1_a", "lora_B.weight")
# A tensor whose number of rows is the rank by which readers divide `.alpha`.
_RANKS = ("lora_A.weight", "lokr_w1_b", "lokr_w2_b", "hada_w1_b")
# Tensors with a row for each row of the layer, and those that all rows share.
_BY_ROW = {"lora_B.weight", "hada_w1_a", "hada_w2_a", "diff", "diff_b", "rescale"}
_BY_BLOCK = {"lokr_w1", "lokr_w1_a", "oft_blocks"}
_SHARED = {"lora_A.weight", "hada_w1_b", "hada_w2_b", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"}
_KNOWN = _BY_ROW | _BY_BLOCK | _SHARED | {"dora_scale"}


def folded(layer: Layer) -> Roles:
    """A layer's tensors in fp32 by the end of their key, with `.alpha` over the rank folded in.

    Raises:
        UserError: a tensor has NaN or infinite numbers, or is of a kind that is only read.
    """
    roles = {_ROLES.get(role, role): tensor.float() for role, tensor in layer.roles.items() if role != "alpha"}
    for role, tensor in roles.items():
        must_be_finite_tensor(tensor, f"{layer.name}.{role}", source="the file")
    rank = rank_of(roles)
    unknown = sorted(roles.keys() - _KNOWN)
    if "oft_blocks" in roles and float(layer.roles.get("alpha", 0)):
        unknown.append("alpha, which limits the rotation,")
    if unknown:
        raise UserError(
            f"{layer.name}: has {', '.join(unknown)}: this kind can only be added to its model (`merge`) or written as "
            "the nearest LoRA (`resize`)."
        )
    if "alpha" in layer.roles and rank is not None:
        scaled = next(role for role in _SCALED_BY if role in roles)
        roles[scaled] = roles[scaled] * (float(layer.roles["alpha"]) / rank)
    return roles


def rank_of(roles: Mapping[str, Tensor]) -> int | None:
    """The rank by which readers divide `.alpha`; None if they ignore it."""
    return next((roles[role].shape[0] for role in _RANKS if role in roles), None)


def height_of(roles: Mapping[str, Tensor]) -> int:
    """The number of rows of the layer.

    Raises:
        ValueError: the kind is not known here.
    """
    by_row = next((roles[role] for role in ("lora_B.weight", "hada_w1_a", "diff", "diff_b") if role in roles), None)
    if by_row is not None:
        return len(by_row)
    if "oft_blocks" in roles and roles["oft_blocks"].ndim == 3:
        return roles["oft_blocks"].shape[0] * roles["oft_blocks"].shape[1]
    halves = [next((roles[r] for r in (f"lokr_{w}", f"lokr_{w}_a") if r in roles), None) for w in ("w1", "w2")]
    if halves[0] is None or halves[1] is None:
        raise ValueError(f"it has {', '.join(sorted(roles))}, which can only be added to the model (`merge`)")
    return len(halves[0]) * len(halves[1])


def cut(roles: Mapping[str, Tensor], rows: Range, height: int) -> Roles:
    """The tensors that change some rows of a layer as they do in the whole.

    Args:
        roles: the tensors of the whole layer.
        rows: the rows `start` to `stop` (exclusive).
        height: number of rows of the layer.

    Raises:
        ValueError: the kind cannot represent these rows by themselves.
    """
    if rows == (0, height):
        return dict(roles)
    return {role: _cut(role, tensor, rows, height).clone() for role, tensor in roles.items()}


def joined(pieces: Sequence[Mapping[str, Tensor]]) -> Roles:
    """The tensors of a layer that stacks the rows of others, from the top: the inverse of `cut`.

    Raises:
        ValueError: they are of different kinds, or differ in what they must share.
    """
    first, *rest = pieces
    if any(piece.keys() != first.keys() for piece in rest):
        raise ValueError("its parts have different kinds of change")
    found = {}
    for role, tensor in first.items():
        own = [piece[role] for piece in pieces]
        is_by_row = role in _BY_ROW | _BY_BLOCK
        if rest and not is_by_row and not all(torch.equal(tensor, other) for other in own):
            raise ValueError(f"its parts do not share {role}")
        if len({piece.shape[1:] for piece in own}) > 1:
            raise ValueError(f"its parts have different shapes of {role}")
        found[role] = torch.cat(own) if rest and is_by_row else tensor
    return found


def by_target(located: Mapping[Location, Layer]) -> dict[str, Roles]:
    """The tensors of each layer of the released model, whose parts may be layers of their own in the file.

    Raises:
        UserError: the parts are not all there, or are not a single change of their kind.
    """
    pieces: dict[str, dict[float, Roles]] = {}
    for where, layer in located.items():
        try:
            for target, place, roles in _placed(where, folded(layer)):
                pieces.setdefault(target, {})[place] = roles
        except ValueError as error:
            raise UserError(f"{layer.name}: {error}.") from error
    shares: dict[str, float] = dict.fromkeys(pieces, 0)
    for where in located:
        for target, share in where.shares().items():
            shares[target] += share
    found = {}
    for target, given in pieces.items():
        if shares[target] < 0.999:
            raise UserError(f"{target}: the file has only some of the layers that it fuses.")
        try:
            found[target] = joined([given[place] for place in sorted(given)])
        except ValueError as error:
            raise UserError(f"{target}: {error}, so it is not a single change of the released layer.") from error
    return found


def _placed(where: Location, roles: Roles) -> list[tuple[str, float, Roles]]:
    """(target, place among its rows, tensors) of each part of a layer of a file."""
    if isinstance(where, LayerLocation) and not where.is_swapped:
        return [(where.target, where.part, roles)]
    height = height_of(roles)
    if isinstance(where, FusedLocation):
        where.check_rows(height)
        unit, found, start = height // sum(where.heights), [], 0
        for target, share in zip(where.targets, where.heights, strict=True):
            found.append((target, 0.0, cut(roles, (start, start + unit * share), height)))
            start += unit * share
        return found
    half = height // 2
    return [(where.target, 0.0, cut(roles, (half, height), height)), (where.target, 1.0, cut(roles, (0, half), height))]


def _cut(role: str, tensor: Tensor, rows: Range, height: int) -> Tensor:
    start, stop = rows
    if role in _BY_ROW:
        return tensor[start:stop]
    if role in _BY_BLOCK:
        size = height // len(tensor)
        if start % size or stop % size:
            kind = "an OFT" if role == "oft_blocks" else "a LoKr"
            raise ValueError(f"{kind} cannot be split within blocks of {size} rows")
        return tensor[start // size : stop // size]
    if role == "dora_scale" and tensor.shape[0] != height:
        raise ValueError("the column norms of a DoRA are those of the whole weight")
    return tensor if role in _SHARED else tensor[start:stop]
