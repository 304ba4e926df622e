"""From the tensors of any LoRA file to updates of the released model's weights; every key is accounted for."""

from __future__ import annotations

import functools
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora import lokr
from toolkit.lora.update import LayerLocation, Locate, Location, Update, fuse

# What programs write before the name of a layer. Longer ones first.
PREFIXES = (
    "base_model.model.diffusion_model.",
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "lora_transformer_",
    "lora_unet_",
    "lycoris_",
    "",
)
# What they write after it.
ROLES = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_A.default.weight": "a",
    ".lora_B.default.weight": "b",
    ".lora_down.weight": "a",
    ".lora_up.weight": "b",
    ".lora.down.weight": "a",
    ".lora.up.weight": "b",
    ".alpha": "alpha",
} | {f".{role}": role for role in lokr.ROLES}
# What is more than a product of two matrices: a LoRA file cannot hold it.
OTHER_KINDS = {
    r"dora_scale$|magnitude": "DoRA",
    r"\.hada_": "LoHa",
    r"\.diff(_b)?$": "full weight changes",
}
LONGEST_PATTERN, MOST_WILDCARDS = 200, 2
ADAPTER_METADATA = "lora_adapter_metadata"  # where diffusers writes peft's settings
_SHOWN = 5


class UnknownKeysError(UserError):
    """Keys that are no LoRA of the model: the file may be of another one."""


def parse(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    locate: Locate,
) -> dict[str, Update]:
    """Updates by target, in fp32, alpha folded in; layers that a target fuses are fused, and the other way round.

    Args:
        tensors: of a file in any format known here.
        metadata: the file's header; alpha may stand there.
        locate: says where a layer belongs by any of its names, dotted or with underscores, without prefix; None if it
            is no layer of the model.

    Raises:
        UnknownKeysError: keys are unknown or given twice; all such keys are counted and the first are named.
        UserError: a layer is incomplete, given twice, or makes no sense.
    """
    found: dict[Location, dict[str, Tensor]] = defaultdict(dict)
    names: dict[Location, str] = {}
    strange = []
    for key, tensor in tensors.items():
        known = _split(key, locate)
        if known is None or known[2] in found[known[1]]:
            strange.append(key)
        else:
            name, where, role = known
            found[where][role] = tensor
            names[where] = name
    if strange:
        raise UnknownKeysError(_complaint(strange, len(tensors)))
    if not found:
        raise UserError("the file holds no tensors.")
    adapter = _adapter(metadata)
    parts: dict[str, dict[LayerLocation, Update]] = defaultdict(dict)
    for where, roles in found.items():
        for piece, update in where.pieces(_update(names[where], roles, adapter)):
            if piece in parts[piece.target]:
                raise UserError(_given_twice(piece.target))
            parts[piece.target][piece] = update
    return {target: _join(target, given) for target, given in parts.items()}


def format_of(tensors: Mapping[str, Tensor]) -> str:
    """How the keys are spelled, in a few words: the commonest prefix and suffix."""
    spellings = [
        (next(p for p in PREFIXES if key.startswith(p)), next((s for s in ROLES if key.endswith(s)), "?"))
        for key in tensors
        if not key.endswith(".alpha")
    ]
    if not spellings:
        return "empty"
    prefix, suffix = max(sorted(set(spellings)), key=spellings.count)
    return f"{prefix}<layer>{suffix}"


def _split(key: str, locate: Locate) -> tuple[str, Location, str] | None:
    """Layer name, location and role of a key."""
    suffix = next((suffix for suffix in ROLES if key.endswith(suffix)), None)
    if suffix is None:
        return None
    for prefix in PREFIXES:
        if key.startswith(prefix):
            name = key.removeprefix(prefix).removesuffix(suffix)
            if where := locate(name):
                return name, where, ROLES[suffix]
    return None


def _update(name: str, roles: Mapping[str, Tensor], adapter: Mapping[str, Any]) -> Update:
    if "alpha" in roles and roles["alpha"].numel() != 1:
        raise UserError(f"{name}: its alpha is no single number but of shape {tuple(roles['alpha'].shape)}.")
    alpha = float(roles["alpha"]) if "alpha" in roles else None
    given = set(roles) - {"alpha"}
    if given == {"a", "b"}:
        a, b = roles["a"].float(), roles["b"].float()
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise UserError(f"{name}: A {tuple(a.shape)} and B {tuple(b.shape)} do not fit together.")
        scale = alpha / a.shape[0] if alpha is not None else _scale(adapter, name, a.shape[0])
        return Update(a, b * scale)
    try:
        return lokr.expand({role: roles[role] for role in given}, alpha)
    except KeyError as error:
        raise UserError(f"{name}: the file has only {', '.join(sorted(roles))} of it. It is incomplete.") from error
    except ValueError as error:
        raise UserError(f"{name}: {error}.") from error


def _join(target: str, given: Mapping[LayerLocation, Update]) -> Update:
    counts = {where.num_parts for where in given}
    by_part = {where.part: update for where, update in given.items()}
    if len(counts) > 1 or len(by_part) < len(given):
        raise UserError(_given_twice(target))
    if counts == {1}:
        return by_part[0]
    if len({(update.a.shape[1], update.b.shape[0]) for update in by_part.values()}) > 1:
        raise UserError(f"{target}: its parts have different shapes.")
    return fuse(by_part, counts.pop())


def _given_twice(target: str) -> str:
    return f"{target}: given twice, as a whole and in parts, or under two names."


def _adapter(metadata: Mapping[str, str]) -> dict[str, Any]:
    """peft's settings of the transformer as diffusers stores them, without the component's name."""
    try:
        stored = json.loads(metadata.get(ADAPTER_METADATA, "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"the header's {ADAPTER_METADATA} is no JSON ({error}).") from error
    if not isinstance(stored, dict):
        raise UserError(f"the header's {ADAPTER_METADATA} is no JSON object.")
    adapter = {key.removeprefix("transformer."): value for key, value in stored.items()}
    if adapter.get("use_dora"):
        raise UserError("the file is a DoRA: its magnitudes cannot be carried by a LoRA.")
    return adapter


def _scale(adapter: Mapping[str, Any], name: str, rank: int) -> float:
    """alpha / rank as peft reckons it; 1 without settings."""
    alpha = adapter.get("lora_alpha")
    patterns = adapter.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise UserError(f"the header's {ADAPTER_METADATA} has an alpha_pattern that is no object.")
    for pattern, value in patterns.items():
        if _compiled(pattern).match(name):
            alpha = value
            break
    if alpha is None:
        return 1.0
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"the header's {ADAPTER_METADATA} has the alpha {alpha!r}, which is no number.")
    return float(alpha) / (rank**0.5 if adapter.get("use_rslora") else rank)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of peft's. Names do, and a wildcard or two; repeated groups could keep `match` busy for years."""
    wildcards = sum(pattern.count(sign) for sign in "*+{?")
    if len(pattern) > LONGEST_PATTERN or wildcards > MOST_WILDCARDS or "(" in pattern:
        raise UserError(f"the header's {ADAPTER_METADATA} has an alpha_pattern that is no name of a layer: {pattern}.")
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except re.error as error:
        raise UserError(f"the header's {ADAPTER_METADATA} has an alpha_pattern that is wrong: {error}.") from error


def _complaint(strange: list[str], total: int) -> str:
    kinds = sorted({kind for key in strange for pattern, kind in OTHER_KINDS.items() if re.search(pattern, key)})
    shown = "\n".join(f"  {key}" for key in strange[:_SHOWN])
    more = f"\n  ... and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
    kind = f" The file holds {' and '.join(kinds)}, which a LoRA cannot carry." if kinds else ""
    return f"{len(strange)} of {total} keys are no LoRA of this model, or stand there twice.{kind}\n{shown}{more}"
