"""The keys of LoRA files: which layer each names, and what of that layer the tensor is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.update import Locate, Location

# What programs write before the name of a layer, once or several times. Longer ones first.
PREFIXES = (
    "base_model.model.",
    "base_model_model_",
    "lora_transformer_",
    "diffusion_model.",
    "diffusion_model_",
    "transformer.",
    "transformer_",
    "lora_unet_",
    "lycoris_",
    "model.",
    "model_",
)
_NAME = r"(?:\.(?P<adapter>[^.]+?))??"  # peft's name of the adapter
# What they write after it, and what that is: `a` and `b` make a LoRA, with their `alpha`.
_SUFFIXES = {
    rf"lora_A{_NAME}\.weight": "a",
    rf"lora_B{_NAME}\.weight": "b",
    rf"lora_B{_NAME}\.bias": "bias",
    r"lora[._]down\.weight": "a",
    r"lora[._]up\.weight": "b",
    r"alpha": "alpha",
    rf"lora_magnitude_vector{_NAME}(?:\.weight)?": "magnitude",
    r"dora_scale|magnitude": "magnitude",
    rf"(?P<role>lokr_w[12](?:_[ab])?|hada_w[12]_[ab]){_NAME}": "",
    rf"oft_R{_NAME}\.weight": "oft_r",
    r"(?P<role>oft_blocks|rescale)": "",
    rf"(?P<role>glora_[A-E]){_NAME}\.(?P<path>X[du]?|zeros)": "",
    r"(?P<role>[ab][12])\.weight": "",
    r"(?P<role>diff|diff_b)": "",
}
_PATTERNS = [(re.compile(rf"(?P<name>.+?)[._]+(?P<suffix>{suffix})"), role) for suffix, role in _SUFFIXES.items()]
# Kinds by a part of their keys, also where a key is of no use here.
_KINDS = {
    r"dora_scale|magnitude": "DoRA",
    r"[._]hada_": "LoHa",
    r"[._]oft_": "OFT",
    r"[._][ab][12]\.weight$|[._]glora_": "GLoRA",
    r"\.(diff(_b)?|set_weight|reshape_weight)$": "full weight changes",
}
TEXT_ENCODER = "text_encoder"
_TEXT_PARTS = re.compile(
    r"(base_model\.model\.|lycoris_)?(lora_te|te\d?[._]|text_encoder|text_model|clip_|t5xxl|cond_stage)"
)
_SHOWN = 5


class UnknownKeysError(UserError):
    """Keys that are no LoRA of the model: the file may be of another one.

    Attributes:
        count: how many there are.
    """

    def __init__(self, keys: list[str], total: int) -> None:
        self.count = len(keys)
        super().__init__(_complaint(keys, total))


@dataclass(frozen=True)
class Layer:
    """What a file says of one layer.

    Attributes:
        name: as the file spells it, without prefix.
        roles: tensors by what they are.
        keys: their names in the file.
    """

    name: str
    roles: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layers:
    """All that a file says.

    Attributes:
        located: by where the layer is in the model.
        others: changes of what is no linear layer, such as a norm, by the name in the file without prefix.
        spelling: prefix and suffix of most keys.
    """

    located: Mapping[Location, Layer]
    others: Mapping[str, Tensor]
    spelling: str


@dataclass(frozen=True)
class _Key:
    name: str
    where: Location | None
    role: str
    adapter: str | None
    spelling: str


def sort_keys(tensors: Mapping[str, Tensor], locate: Locate) -> Layers:
    """Every key put to its layer.

    Raises:
        UnknownKeysError: keys are unknown or given twice; all such keys are counted and the first are named.
        UserError: there are none, or those of several adapters.
    """
    located: dict[Location, Layer] = {}
    others: dict[str, Tensor] = {}
    adapters: set[str] = set()
    spellings: Counter[str] = Counter()
    strange = []
    for key, tensor in tensors.items():
        known = _split(key, locate)
        if known is not None and known.where is None and known.role == "diff" and tensor.ndim == 1:
            others[known.name] = tensor
        elif known is None or known.where is None or known.role in _roles(located, known.where):
            strange.append(key)
        else:
            layer = located.setdefault(known.where, Layer(known.name))
            layer.roles[known.role], layer.keys[known.role] = tensor, key
            adapters |= {known.adapter} if known.adapter else set()
            spellings[known.spelling] += known.role != "alpha"
    if strange:
        raise UnknownKeysError(strange, len(tensors))
    if not located:
        raise UserError("the file holds no tensors of linear layers." if others else "the file holds no tensors.")
    if len(adapters) > 1:
        names = ", ".join(sorted(adapters))
        raise UserError(f"the file holds several adapters, {names}. Save each of them to a file of its own.")
    return Layers(located, others, spellings.most_common(1)[0][0])


def without_parts(tensors: Mapping[str, Tensor], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors without those of some components; `text_encoder` is the only one there is."""
    return {key: tensor for key, tensor in tensors.items() if not (parts and _TEXT_PARTS.match(key))}


def strip_prefix(name: str, locate: Locate) -> tuple[str, Location | None]:
    """The name of a layer without what programs write before it, and where it belongs; None: nowhere."""
    while True:
        if where := locate(name.strip("_")):
            return name.strip("_"), where
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return name, None
        name = name.removeprefix(prefix)


def kinds_of(keys: Iterable[str]) -> list[str]:
    """The kinds, beside LoRA and LoKr, of which keys or their ends are."""
    return sorted({kind for key in keys for pattern, kind in _KINDS.items() if re.search(pattern, key)})


def targets_named(keys: Iterable[str], locate: Locate) -> set[str]:
    """The targets of all layers that keys name."""
    found = (_split(key, locate) for key in keys)
    return {target for key in found if key is not None and key.where is not None for target in key.where.shares()}


def _roles(located: Mapping[Location, Layer], where: Location) -> Mapping[str, Tensor]:
    return located[where].roles if where in located else {}


def _split(key: str, locate: Locate) -> _Key | None:
    unlocated = None
    for pattern, role in _PATTERNS:
        match = pattern.fullmatch(key)
        if match is None:
            continue
        groups = match.groupdict()
        name, where = strip_prefix(groups["name"], locate)
        if not role:
            role = groups["role"] + (f".{groups['path']}" if groups.get("path") else "")
        prefix = groups["name"][: groups["name"].find(name)]
        spelling = f"{prefix}<layer>{key[len(groups['name']) :]}"
        found = _Key(name, where, role, groups.get("adapter"), spelling)
        if where is not None:
            return found
        unlocated = unlocated or found
    return unlocated


def _complaint(strange: list[str], total: int) -> str:
    kinds = kinds_of(strange)
    shown = "\n".join(f"  {key}" for key in strange[:_SHOWN])
    more = f"\n  ... and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
    kind = f" The file holds {' and '.join(kinds)}, which a LoRA cannot carry." if kinds else ""
    texts = sum(_TEXT_PARTS.match(key) is not None for key in strange)
    if texts:
        kind += (
            f" {texts} of them are of a text encoder: python -m toolkit.lora convert FILE --without {TEXT_ENCODER} "
            "--output NEW_FILE leaves these out."
        )
    return f"{len(strange)} of {total} keys are no LoRA of this model, or stand there twice.{kind}\n{shown}{more}"
