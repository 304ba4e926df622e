"""`network`: what is trained on top of the frozen model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Protocol

from pydantic import Field

from toolkit.choice import ChoiceOf
from toolkit.config.paths import ExistingFile
from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.networks.choices import NETWORKS, REFUSED_NETWORKS
from toolkit.networks.settings import LayerSettings
from toolkit.section import Harmless, NameParts, SameAs, Section, Shown


def _is_lokr(context: KeyContext) -> bool:
    return bool(context.section.type == "lokr")


def _has_rank(context: KeyContext) -> bool:
    network = context.section
    return bool(NETWORKS[network.type].rank_is) and not (network.type == "lokr" and network.lokr_full_rank)


_LOKR = OnlyWith("with `type: lokr`", _is_lokr, is_switched=True)
_RANK = OnlyWith(
    "by kinds of network with a rank (with `lokr_full_rank: true`, both matrices of a LoKr are full)", _has_rank
)
_LORA = OnlyWith("with `type: lora`", lambda context: bool(context.parent.type == "lora"))
_NO_DORA = OnlyWith("without `type: dora`", lambda context: bool(context.parent.type != "dora"))


class NetworkKwargs(Section):
    """`network.network_kwargs`: which layers get a network, and how they drop out."""

    only_if_contains: Annotated[NameParts, Shown(label="Train only these layers")] = Field(
        (), description="Only layers whose dotted name contains one of these strings."
    )
    ignore_if_contains: Annotated[NameParts, Shown(label="Leave out these layers")] = Field(
        (), description="No layer whose dotted name contains one of these strings."
    )
    full_if_contains: Annotated[NameParts, Shown(label="Train these layers in full", level="expert")] = Field(
        (),
        description="Trained layers whose dotted name contains one of these strings get a full-rank update of their "
        "weight (like `type: fullrank`).",
    )
    rank_dropout: Annotated[float, _LORA] = Field(
        0.0, ge=0, lt=1, description="LoRA: share of the rank's dimensions that is dropped for each sample in training."
    )
    module_dropout: Annotated[float, _NO_DORA] = Field(
        0.0, ge=0, lt=1, description="Probability that a layer is left unchanged for a whole pass in training."
    )


class LayerPattern(Section):
    """One entry of `network.patterns`: other settings for some of the layers."""

    contains: Annotated[NameParts, Shown(label="Layers")] = Field(
        description="Layers whose dotted name contains one of these strings. The first entry that matches applies."
    )
    type: Annotated[str | None, ChoiceOf(NETWORKS), Shown(label="Kind of network")] = Field(
        None, description="Kind of network on these layers. Default: `network.type`."
    )
    linear: Annotated[int | None, Shown(label="Rank")] = Field(
        None, ge=1, description="Rank on these layers. Default: `network.linear`."
    )
    linear_alpha: Annotated[float | None, Shown(label="Alpha")] = Field(
        None, gt=0, description="Alpha on these layers. Default: the same multiple of the rank as elsewhere."
    )
    lr: Annotated[float | None, Shown(label="Learning rate")] = Field(
        None, gt=0, description="Learning rate of these layers, which follows the same schedule. Default: `train.lr`."
    )


_HAS_B = OnlyWith("with `type: lora` or `type: dora`", lambda context: context.section.type in ("lora", "dora"))


class NamedLayer(Protocol):
    """A layer of a model, by its name in the released model and those of the layers of ours that it fuses."""

    @property
    def name(self) -> str:
        """The name in the released model."""
        ...

    @property
    def modules(self) -> tuple[str, ...]:
        """The names in our library."""
        ...


class NetworkConfig(Section):
    """`network`: the small weights trained on top of the frozen model."""

    aliases: ClassVar[Mapping[str, str]] = {"rank": "linear", "alpha": "linear_alpha"}

    type: Annotated[str, ChoiceOf(NETWORKS, refused=REFUSED_NETWORKS), Shown(label="Kind of network")] = Field(
        "lora", description="Kind of network."
    )
    linear: Annotated[int, _RANK, Shown(label="Rank", level="basic")] = Field(
        16, ge=1, description="Rank of each update B @ A."
    )
    linear_alpha: Annotated[float, _RANK, Shown(label="Alpha")] = Field(
        default_factory=SameAs("linear"), gt=0, description="The update is scaled by linear_alpha / linear."
    )
    lokr_factor: Annotated[int, _LOKR, Shown(label="LoKr: factor")] = Field(
        -1,
        ge=-1,
        description="LoKr: largest side of the smaller of the two matrices. -1: both about equally large, which gives "
        "the fewest weights; 4, 8 or 16: more weights in the larger one.",
    )
    lokr_full_rank: Annotated[bool, _LOKR, Shown(label="LoKr: full rank")] = Field(
        True,
        description="LoKr: both matrices are full, and `linear` has no effect. false: the larger one has rank "
        "`linear`.",
    )
    old_lokr_format: Annotated[Harmless[bool], _LOKR, Shown(label="LoKr: old file format", level="expert")] = Field(
        False, description="LoKr: write the names `lycoris_...`, as older versions of ai-toolkit did."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of a LoRA's inner activations (the output of A) dropped in training."
    )
    rs_lora: Annotated[bool, _RANK, Shown(label="Rank-stabilised scale", level="expert")] = Field(
        False, description="Scale by linear_alpha / sqrt(linear) instead, so that high ranks learn as fast as low ones."
    )
    loraplus_lr_ratio: Annotated[float, _HAS_B, Shown(label="LoRA+ ratio", level="expert")] = Field(
        1.0, gt=0, description="LoRA+: the learning rate of B is this many times that of A."
    )
    patterns: Annotated[tuple[LayerPattern, ...], Shown(label="Other settings for some layers", level="expert")] = (
        Field((), description="Rank, alpha, learning rate or kind for some of the layers.")
    )
    transformer_only: Annotated[bool, Shown(label="Transformer blocks only")] = Field(
        True, description="Only layers inside transformer blocks; false: every linear layer."
    )
    network_kwargs: Annotated[NetworkKwargs, Shown(label="Network: choice of layers")] = Field(
        NetworkKwargs(), description="Which layers get a network."
    )
    pretrained_lora_path: Annotated[ExistingFile | None, Shown(label="Start from this LoRA", widget="file")] = Field(
        None, description="Start from the weights of this LoRA file."
    )

    @property
    def rank(self) -> int:
        """The rank: `linear` by its usual name."""
        return self.linear

    @property
    def alpha(self) -> float:
        """`linear_alpha` by its usual name."""
        return self.linear_alpha

    def describe(self) -> str:
        """The network in a few words, such as `LoRA of rank 16`."""
        row = NETWORKS[self.type]
        has_rank = row.rank_is and not (self.type == "lokr" and self.lokr_full_rank)
        return f"{row.label} of {row.rank_is} {self.linear}" if has_rank else row.label

    def at(self, layer: NamedLayer | None) -> tuple[str, LayerSettings]:
        """The kind of network on a layer (None: any), a key of `NETWORKS`, and its settings there."""
        kwargs = self.network_kwargs
        own = next((one for one in self.patterns if layer and is_named(layer, one.contains)), None)
        kind = (own and own.type) or self.type
        if layer and is_named(layer, kwargs.full_if_contains):
            kind = "fullrank"
        rank = (own and own.linear) or self.linear
        alpha = (own and own.linear_alpha) or self.linear_alpha * rank / self.linear
        return kind, LayerSettings(
            rank=rank,
            scale=alpha / (rank**0.5 if self.rs_lora else rank),
            dropout=self.dropout,
            rank_dropout=kwargs.rank_dropout,
            module_dropout=0.0 if kind == "dora" else kwargs.module_dropout,  # which has turned the inputs before
            lr=own.lr if own else None,
            factor=self.lokr_factor,
            is_full_rank=self.lokr_full_rank,
        )

    @property
    def scale(self) -> float:
        """What B @ A is multiplied by."""
        return self.at(None)[1].scale


def names_of(layer: NamedLayer) -> list[str]:
    """The names that patterns are matched against: the released model's, then those of the layers that it fuses."""
    return [f"transformer.{name}" for name in (layer.name, *layer.modules)]


def is_named(layer: NamedLayer, patterns: Collection[str]) -> bool:
    """Whether one of the patterns is part of one of the layer's names."""
    return any(pattern in name for pattern in patterns for name in names_of(layer))
