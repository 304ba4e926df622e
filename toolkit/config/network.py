"""`network`: what is trained on top of the frozen model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import BeforeValidator, Field

from toolkit.choice import ChoiceOf
from toolkit.config.paths import ExistingFile
from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.networks.choices import NETWORKS
from toolkit.networks.settings import LayerSettings
from toolkit.section import Harmless, SameAs, Section, Shown


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


NameParts = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


class NetworkKwargs(Section):
    """`network.network_kwargs`: which layers get a LoRA."""

    only_if_contains: Annotated[NameParts, Shown(label="Train only these layers")] = Field(
        (), description="Only layers whose dotted name contains one of these strings."
    )
    ignore_if_contains: Annotated[NameParts, Shown(label="Leave out these layers")] = Field(
        (), description="No layer whose dotted name contains one of these strings."
    )


def _is_lokr(context: KeyContext) -> bool:
    return bool(context.section.type == "lokr")


def _has_rank(context: KeyContext) -> bool:
    return not (_is_lokr(context) and context.section.lokr_full_rank)


_LOKR = OnlyWith("with `type: lokr`", _is_lokr)
_RANK = OnlyWith("without `lokr_full_rank: true`, with which both matrices of a LoKr are full", _has_rank)


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

    type: Annotated[str, ChoiceOf(NETWORKS), Shown(label="Kind of network")] = Field(
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
        description="LoKr: largest side of the smaller of the two matrices. -1: as large as the other, which has the "
        "fewest weights; 4, 8 or 16: more weights in the larger one.",
    )
    lokr_full_rank: Annotated[bool, _LOKR, Shown(label="LoKr: full rank")] = Field(
        True, description="LoKr: both matrices are full, and `linear` has no effect. false: the larger is of this rank."
    )
    old_lokr_format: Annotated[Harmless[bool], _LOKR, Shown(label="LoKr: old file format", level="expert")] = Field(
        False, description="LoKr: write the names `lycoris_...`, as older versions of ai-toolkit did."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of a LoRA's inner activations (the output of A) dropped in training."
    )
    transformer_only: Annotated[bool, Shown(label="Transformer blocks only")] = Field(
        True, description="Only layers inside transformer blocks; false: every linear layer."
    )
    network_kwargs: Annotated[NetworkKwargs, Shown(label="Network: choice of layers")] = Field(
        NetworkKwargs(), description="Which layers get a LoRA."
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
        label = NETWORKS[self.type].label
        return label if self._has_idle_rank else f"{label} of rank {self.linear}"

    @property
    def _has_idle_rank(self) -> bool:
        return self.type == "lokr" and self.lokr_full_rank

    def at(self, layer: NamedLayer | None) -> tuple[str, LayerSettings]:
        """The kind of network on a layer (None: any), a key of `NETWORKS`, and its settings there."""
        return self.type, LayerSettings(
            self.linear, self.scale, self.dropout, factor=self.lokr_factor, is_full_rank=self.lokr_full_rank
        )

    @property
    def scale(self) -> float:
        """What B @ A is multiplied by."""
        return self.linear_alpha / self.linear
