"""FLUX.1: everything that the trainer knows about this model family."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Create `AI_TOOLKIT_MODELS` on first access: the classes need torch, the card in this package does not."""
    if name != "AI_TOOLKIT_MODELS":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from extensions_built_in.diffusion_models.flux.flux_model import FluxKontextModel, FluxModel

    return [FluxModel, FluxKontextModel]
