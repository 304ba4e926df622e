"""FLUX.2: everything that the trainer knows about this model family."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Create `AI_TOOLKIT_MODELS` on first access: the classes need torch, the card in this package does not."""
    if name != "AI_TOOLKIT_MODELS":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from extensions_built_in.diffusion_models.flux2.flux2_model import (
        Flux2Klein4BModel,
        Flux2Klein9BModel,
        Flux2Model,
        Flux2TinyModel,
    )
    from extensions_built_in.diffusion_models.flux2.klein_kv_model import Flux2Klein9BKVModel

    return [Flux2Model, Flux2Klein4BModel, Flux2Klein9BModel, Flux2Klein9BKVModel, Flux2TinyModel]
