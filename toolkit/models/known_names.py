"""Names of a model that scripts and extensions written for ai-toolkit use; the trainer itself asks `BaseModel`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol

from toolkit.cards import ModelCard


class _Model(Protocol):
    """What the names are answered from."""

    text_encoder: Any
    transformer: Any

    @property
    def card(self) -> ModelCard: ...

    def load(self, component: Literal["text_encoder", "vae", "transformer"]) -> None: ...


class KnownNames:
    """The names, each with an answer that follows from those of a model."""

    is_flow_matching: bool = True
    is_transformer: bool = True
    target_lora_modules: ClassVar[list[str]] = []

    @property
    def is_flux2(self: _Model) -> bool:
        """True for every FLUX.2 arch. Derived, never set; our own code asks for capabilities instead."""
        return self.card.family == "flux2"

    @property
    def is_flux(self: _Model) -> bool:
        """True for every FLUX.1 arch. See `is_flux2`."""
        return self.card.family == "flux"

    def load_model(self: _Model) -> None:
        """Load every component."""
        self.load("text_encoder")
        self.load("vae")
        self.load("transformer")

    def get_model_has_grad(self: _Model) -> bool:
        """Whether anything in the transformer is being trained."""
        return self.transformer is not None and any(p.requires_grad for p in self.transformer.parameters())

    def get_te_has_grad(self: _Model) -> bool:
        """Whether anything in the text encoder is being trained."""
        return self.text_encoder is not None and any(p.requires_grad for p in self.text_encoder.parameters())
