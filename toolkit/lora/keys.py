"""The keys of LoRA files: which layer each key names, and which part of its update the tensor is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.update import Locate, Location

# Prefixes that programs put before a layer's name, one or several at a time. Longer ones first.
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
_NAME = r"(?:\.(?P<adapter>[^.]+?))??"  # adapter name that peft inserts
# Suffixes after the layer's name, and the role of the tensor: `a`, `b` and `alpha` make a LoRA.
_SUFFIXES = {
    rf"lora_A{_NAME}\.weight": "a",
    rf"lora_B{_NAME}\.weight": "b",
    rf"lora_B{_NAME}\.bias": "bias",
    r"lora[._]down\.weight": "a",
    r"lora[._]up\.weight": "b",
    r"down\.weight": "a",
    r"up\.weight": "b",
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
# Kinds of update, recognised by a part of their keys, including kinds that are not supported.
_KINDS = {
    r"dora_scale|magnitude": "DoRA",
    r"[._]hada_": "LoHa",
    r"[._]oft_": "OFT",
    r"[._][ab][12]\.weight$|[._]glora_": "GLoRA",
    r"\.(diff(_b)?|set_weight|reshape_weight)$": "full weight changes",
}
TEXT_ENCODER = "text_encoder"
_TEXT_PARTS = re.compile(
    r"(base_model\.model\.|lycoris_)?(lora_te|te\d?[._]|text_encoder|text_model|clip_|t5(xxl|\.)|bundle_emb|cond_stage)"
)
_SHOWN = 5


class UnknownKeysError(UserError):
    """Keys that do not name LoRA weights of the model: the file may belong to another one.

    Attributes:
        count: number of unknown keys.
    """

    def __init__(self, keys: list[str], total: int) -> None:
        self.count = len(keys)
        super().__init__(_complaint(keys, total))


@dataclass(frozen=True)
class Layer:
    """One layer's tensors in a file.

    Attributes:
        name: the layer's name as the file spells it, without prefix.
        roles: the layer's tensors by role (`a`, `b`, `alpha`, ...).
        keys: each tensor's key in the file, by role.
    """

    name: str
    roles: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layers:
    """All tensors of a file, grouped by layer.

    Attributes:
        located: each linear layer's tensors, by the layer's location in the model.
        others: changes of parameters outside linear layers, such as norms, by their name in the file without prefix.
        spelling: the most common prefix and suffix of the keys.
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
    """Assign every key to its layer.

    Raises:
        UnknownKeysError: keys are unknown or occur twice; it counts all of them and names the first few.
        UserError: there are no tensors, or those of several adapters.
    """
    located: dict[Location, Layer] = {}
    others: dict[str, Tensor] = {}
    adapters: set[str] = set()
    spellings: Counter[str] = Counter()
    unknown = []
    for key, tensor in tensors.items():
        known = _split(key, locate)
        if known is not None and known.where is None and known.role == "diff" and tensor.ndim == 1:
            others[known.name] = tensor
        elif known is None or known.where is None or known.role in _roles(located, known.where):
            unknown.append(key)
        else:
            layer = located.setdefault(known.where, Layer(known.name))
            layer.roles[known.role], layer.keys[known.role] = tensor, key
            adapters |= {known.adapter} if known.adapter else set()
            spellings[known.spelling] += known.role != "alpha"
    if unknown:
        raise UnknownKeysError(unknown, len(tensors))
    if not located:
        raise UserError("the file has no tensors of linear layers." if others else "the file has no tensors.")
    if len(adapters) > 1:
        names = ", ".join(sorted(adapters))
        raise UserError(f"the file contains several adapters: {names}. Save each of them to a separate file.")
    return Layers(located, others, spellings.most_common(1)[0][0])


def without_parts(tensors: Mapping[str, Tensor], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors without those of the given components; the only possible component is `text_encoder`."""
    return {key: tensor for key, tensor in tensors.items() if not (parts and _TEXT_PARTS.match(key))}


def strip_prefix(name: str, locate: Locate) -> tuple[str, Location | None]:
    """A layer's name without the prefixes that programs add, and its location; None if the model has no such layer."""
    while True:
        if where := locate(name.strip("_")):
            return name.strip("_"), where
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return name, None
        name = name.removeprefix(prefix)


def kinds_of(keys: Iterable[str]) -> list[str]:
    """The kinds of update other than LoRA and LoKr to which keys (or their suffixes) belong."""
    return sorted({kind for key in keys for pattern, kind in _KINDS.items() if re.search(pattern, key)})


def targets_named(keys: Iterable[str], locate: Locate) -> set[str]:
    """Names of the LoRA targets to which the keys' layers belong."""
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


def _complaint(unknown: list[str], total: int) -> str:
    kinds = kinds_of(unknown)
    shown = "\n".join(f"  {key}" for key in unknown[:_SHOWN])
    more = f"\n  ... and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    kind = f" The file contains {' and '.join(kinds)}, which a LoRA cannot represent." if kinds else ""
    texts = sum(_TEXT_PARTS.match(key) is not None for key in unknown)
    if texts:
        kind += (
            f" {texts} of them belong to a text encoder: python -m toolkit.lora convert FILE --without {TEXT_ENCODER} "
            "--output NEW_FILE omits them."
        )
    return f"{len(unknown)} of {total} keys are not LoRA keys of this model, or occur twice.{kind}\n{shown}{more}"
