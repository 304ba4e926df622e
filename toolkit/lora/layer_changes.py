"""Reads the tensors that a file has for one layer, of whatever kind, as the change that they make to its weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora import lokr
from toolkit.lora.changes import Change, Decomposed, Difference, Elementwise, Generalized, Hadamard, Product
from toolkit.lora.keys import kinds_of
from toolkit.lora.rotations import LeftRotation, RightRotation, cayley_blocks, skew_blocks
from toolkit.lora.settings import AdapterSettings
from toolkit.lora.update import Update

LOKR, HADA = lokr.ROLES, ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_GLORA = ("a1", "a2", "b1", "b2")
_SIDE_ROLES = {"alpha", "magnitude", "bias", "diff_b"}


def change_of(name: str, roles: Mapping[str, Tensor], settings: AdapterSettings) -> Change | None:
    """The change that one layer's tensors make to its weight; None if they only change its bias.

    LoRA, LoHa and LoKr take their scale from `.alpha`, else from peft's settings, else it is 1. peft scales every LoKr
    by alpha / rank, LyCORIS only those with a low-rank factor. LyCORIS' GLoRA takes its scale from `.alpha`, and the
    header tells whether rank or its square root divides it. Differences, rotations and peft's GLoRA have no scale (the
    alpha of an OFT is its constraint).

    Raises:
        UserError: the layer is incomplete, inconsistent or of an unknown kind.
    """
    if "alpha" in roles and roles["alpha"].numel() != 1:
        raise UserError(f"{name}: alpha must be a single number, but has shape {tuple(roles['alpha'].shape)}.")
    given = {role: tensor for role, tensor in roles.items() if role not in _SIDE_ROLES}
    try:
        change = _weight_change(name, given, float(roles["alpha"]) if "alpha" in roles else None, settings)
    except KeyError as error:
        raise UserError(_incomplete(name, roles)) from error
    except ValueError as error:
        raise UserError(f"{name}: {error}.") from error
    if change is None and not {"bias", "diff_b"} & roles.keys():
        raise UserError(_incomplete(name, roles))
    if change is not None and "magnitude" in roles:
        return Decomposed(change, roles["magnitude"])
    return change


def bias_change_of(name: str, roles: Mapping[str, Tensor], settings: AdapterSettings) -> Tensor | None:
    """What is added to a layer's bias: a stored difference, or the bias of a LoRA that has one, scaled like it."""
    if "diff_b" in roles:
        return roles["diff_b"].float()
    if "bias" not in roles:
        return None
    if "a" not in roles:
        raise UserError(_incomplete(name, roles))
    alpha, rank = roles.get("alpha"), roles["a"].shape[0]
    return roles["bias"].float() * (settings.scale_of(name, rank) if alpha is None else float(alpha) / rank)


def _incomplete(name: str, roles: Mapping[str, Tensor]) -> str:
    kinds = kinds_of(f".{role}" for role in roles)
    what = f" ({' and '.join(kinds)})" if kinds else ""
    return f"{name}{what}: incomplete, the file has only {', '.join(sorted(roles))}."


def _weight_change(
    name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings
) -> Change | None:
    for roles, make in _KINDS.items():
        if given.keys() & set(roles):
            if others := sorted(given.keys() - set(roles)):
                raise ValueError(f"it also has tensors of another kind of update, {', '.join(others)}")
            return make(name, given, alpha, settings)
    if given:
        raise KeyError(next(iter(given)))
    return None


def _scale(name: str, rank: int, alpha: float | None, settings: AdapterSettings) -> float:
    return settings.scale_of(name, rank) if alpha is None else alpha / rank


def _lora(name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings) -> Change:
    update = _pair(given["b"], given["a"])
    return Product(Update(update.a, update.b * _scale(name, update.rank, alpha, settings)))


def _lokr(name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings) -> Change:
    stated = settings.alpha_of(name)
    if alpha is not None or stated is None:
        return Product(lokr.expand(given, alpha), "LoKr")
    update, rank = lokr.expand(given, None), settings.rank_of(name) or lokr.low_rank(given)
    if rank is None:
        raise ValueError(f"its settings give alpha {stated:g}, but not the rank `r` by which peft divides it")
    return Product(Update(update.a, update.b * (stated / rank)), "LoKr")


def _loha(name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings) -> Change:
    w1_a, w1_b, w2_a, w2_b = (given[role] for role in HADA)
    one, other = _pair(w1_a, w1_b), _pair(w2_a, w2_b)
    return Hadamard(one, other, _scale(name, one.rank, alpha, settings))


def _lycoris_glora(name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings) -> Change:
    a1, a2, b1, b2 = (given[role] for role in _GLORA)
    if a1.shape[1] == a2.shape[0] == b1.shape[1] == b2.shape[0]:
        a, b = _pair(a1, a2), _pair(b1, b2)
    else:  # LyCORIS before version 3 stores the factors the other way round
        a, b = _pair(a2, a1), _pair(b2, b1)
    # With `rs_lora`, LyCORIS stores a corrected alpha in every other kind, so that alpha / rank holds; not in GLoRA.
    divisor = a.rank**0.5 if settings.has_rs_lora else a.rank
    return Generalized(a, b, 1.0 if alpha is None else alpha / divisor)


def _peft_glora(name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings) -> Change:
    if any(role[:7] in ("glora_C", "glora_D", "glora_E") and not role.endswith(".zeros") for role in given):
        raise ValueError("its GLoRA derives the bias change from the weight, which is not supported")

    def path(side: str) -> Tensor:
        if f"{side}.X" in given:
            return given[f"{side}.X"].float().view(-1, 1)  # [out, 1] or [1, 1]
        if f"{side}.Xd" in given or f"{side}.Xu" in given:
            return _pair(given[f"{side}.Xd"], given[f"{side}.Xu"]).delta()
        return torch.zeros(1, 1)

    return Elementwise(path("glora_A"), path("glora_B"))


def _peft_oft(name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings) -> Change:
    if not settings.is_known:
        raise ValueError("an OFT needs peft's adapter_config.json, which is not in the file's folder")
    values = settings.values
    skew = skew_blocks(given["oft_r"], limit=float(values.get("eps", 6e-5)) if values.get("coft") else None)
    terms = int(values.get("num_cayley_neumann_terms", 5)) if values.get("use_cayley_neumann", False) else None
    sign = -1 if terms is None else 1  # peft's exact form computes the inverse of what its series computes
    return RightRotation(cayley_blocks(sign * skew, num_terms=terms))


def _lycoris_oft(name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings) -> Change:
    blocks = given["oft_blocks"]
    if blocks.ndim != 3 or blocks.shape[1] != blocks.shape[2]:
        raise ValueError(f"its OFT blocks have shape {tuple(blocks.shape)}, like those of BOFT, which is not supported")
    return LeftRotation(blocks.double(), alpha or 0.0, given.get("rescale"))


def _difference(name: str, given: Mapping[str, Tensor], alpha: float | None, settings: AdapterSettings) -> Change:
    return Difference(given["diff"])


_KINDS = {
    ("a", "b"): _lora,
    LOKR: _lokr,
    HADA: _loha,
    _GLORA: _lycoris_glora,
    tuple(f"glora_{side}.{part}" for side in "ABCDE" for part in ("Xd", "Xu", "X", "zeros")): _peft_glora,
    ("oft_r",): _peft_oft,
    ("oft_blocks", "rescale"): _lycoris_oft,
    ("diff",): _difference,
}


def _pair(b: Tensor, a: Tensor) -> Update:
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise ValueError(f"A {tuple(a.shape)} and B {tuple(b.shape)} do not fit together")
    return Update(a.float(), b.float())
