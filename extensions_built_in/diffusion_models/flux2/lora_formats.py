"""FLUX.2's LoRA files as other programs read them.

`bfl` uses the names of the released single file, `diffusion_model.<name>.lora_A/B.weight`, with alpha / rank folded
into B and no alpha of its own: diffusers, ComfyUI old and new and ai-toolkit all read it. `diffusers` uses the names of
that library (ComfyUI needs a version of 2026 for it). `kohya` is the spelling of sd-scripts and musubi-tuner.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from extensions_built_in.diffusion_models.flux2.lora_keys import BLOCK_LISTS, FINAL_MODULATION, layers_of
from toolkit.errors import UserError
from toolkit.lora.update import Update, kohya_pairs, named_pairs, split, swap_halves

# What diffusers reads outside the blocks of a kohya file; it drops all else with a warning.
_KOHYA_OUTER = ("img_in", "txt_in", "time_in.in_layer", "time_in.out_layer", "final_layer.linear")


def write(updates: Mapping[str, Update], file_format: str) -> dict[str, Tensor]:
    """Tensors of a file.

    Args:
        updates: by name in the released model.
        file_format: a key of `FORMATS`.

    Raises:
        UserError: a program that reads this format would read one of the layers wrongly, or not at all.
    """
    return FORMATS[file_format](updates)


def _bfl(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    _refuse(
        "bfl",
        [target for target in updates if target == FINAL_MODULATION[0]],
        "diffusers reads the halves of its update in the wrong order",
    )
    return named_pairs(updates, "diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight")


def _diffusers(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    named: dict[str, Update] = {}
    for target, update in updates.items():
        layers = layers_of(target)
        if target == FINAL_MODULATION[0]:
            named[layers[0]] = Update(update.a, swap_halves(update.b))
        else:
            parts = split(update, len(layers)) if len(layers) > 1 else [update]
            named |= {layer: part for layer, part in zip(layers, parts, strict=True) if part is not None}
    return named_pairs(named, "transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight")


def _kohya(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    blocks = tuple(f"{name}." for name in BLOCK_LISTS)
    _refuse(
        "kohya",
        [target for target in updates if not target.startswith(blocks) and target not in _KOHYA_OUTER],
        "diffusers drops it from such a file",
    )
    return kohya_pairs(updates)


FORMATS = {"bfl": _bfl, "diffusers": _diffusers, "kohya": _kohya}


def _refuse(file_format: str, targets: list[str], reason: str) -> None:
    if targets:
        raise UserError(
            f"{targets[0]}{f' and {len(targets) - 1} more' if targets[1:] else ''}: cannot be written as "
            f"`{file_format}`, {reason}. Write the file as `diffusers`, or leave the layer out "
            "(network.network_kwargs.ignore_if_contains)."
        )
