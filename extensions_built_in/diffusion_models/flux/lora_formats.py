"""FLUX.1's LoRA files as other programs read them.

`diffusers` uses the names of that library, `transformer.<layer>.lora_A/B.weight`, with alpha / rank folded into B: what
ai-toolkit writes, read by diffusers and ComfyUI. `kohya` is the spelling of sd-scripts, read by both too. `bfl` uses
the names of the released single file, which ComfyUI reads and diffusers does not. The last two fuse q, k and v: where
these were trained apart their ranks add up, and the change stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from extensions_built_in.diffusion_models.flux.lora_keys import layers_of, locate, released_of
from toolkit.lora.update import FusedLocation, Update, kohya_pairs, named_pairs, swap_halves


def write(updates: Mapping[str, Update], file_format: str) -> dict[str, Tensor]:
    """Tensors of a file.

    Args:
        updates: by name in the diffusers model.
        file_format: a key of `FORMATS`.
    """
    return FORMATS[file_format](updates)


def _diffusers(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    return named_pairs(updates, "transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight")


def _bfl(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    return named_pairs(_released(updates), "diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight")


def _kohya(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    return kohya_pairs(_released(updates))


FORMATS = {"bfl": _bfl, "diffusers": _diffusers, "kohya": _kohya}


def _released(updates: Mapping[str, Update]) -> dict[str, Update]:
    """By name in the released model."""
    result: dict[str, Update] = {}
    for name in dict.fromkeys(released_of(target) for target in updates):
        where = locate(name)
        if isinstance(where, FusedLocation):
            joined = where.joined(updates)
            assert joined is not None, name
            result[name] = joined
        else:
            assert where is not None, name
            update = updates[layers_of(name)[0]]
            result[name] = Update(update.a, swap_halves(update.b)) if where.is_swapped else update
    return result
