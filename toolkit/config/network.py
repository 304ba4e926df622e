"""`network`: what is trained on top of the frozen model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from toolkit.choice import ChoiceOf
from toolkit.config.paths import ExistingFile
from toolkit.networks.choices import NETWORKS
from toolkit.networks.settings import LayerSettings
from toolkit.section import SameAs, Section, Shown


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


class NetworkConfig(Section):
    """`network`: the small weights trained on top of the frozen model."""

    aliases: ClassVar[Mapping[str, str]] = {"rank": "linear", "alpha": "linear_alpha"}

    type: Annotated[str, ChoiceOf(NETWORKS), Shown(label="Kind of network")] = Field(
        "lora", description="Kind of network."
    )
    linear: Annotated[int, Shown(label="Rank", level="basic")] = Field(
        16, ge=1, description="Rank of each update B @ A."
    )
    linear_alpha: Annotated[float, Shown(label="Alpha")] = Field(
        default_factory=SameAs("linear"), gt=0, description="The update is scaled by linear_alpha / linear."
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

    def settings(self) -> LayerSettings:
        """The settings of the network on each layer."""
        return LayerSettings(self.linear, self.scale, self.dropout)

    @property
    def scale(self) -> float:
        """What B @ A is multiplied by."""
        return self.linear_alpha / self.linear
