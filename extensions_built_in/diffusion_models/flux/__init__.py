"""FLUX.1: all that this trainer knows about the model family."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`AI_TOOLKIT_MODELS`, made when it is asked for: the classes need torch, the card beside them does not."""
    if name != "AI_TOOLKIT_MODELS":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from extensions_built_in.diffusion_models.flux.flux_model import FluxKontextModel, FluxModel

    return [FluxModel, FluxKontextModel]
