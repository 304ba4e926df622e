"""The whole transformer under the names of the released single file."""

from __future__ import annotations

import torch
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.lora_keys import DOUBLE_BLOCK, OUTER, SINGLE_BLOCK
from toolkit.lora.update import swap_halves

_NORMS = {
    "img_attn.norm.query_norm.scale": "attn.norm_q.weight",
    "img_attn.norm.key_norm.scale": "attn.norm_k.weight",
    "txt_attn.norm.query_norm.scale": "attn.norm_added_q.weight",
    "txt_attn.norm.key_norm.scale": "attn.norm_added_k.weight",
}
_SINGLE_NORMS = {"norm.query_norm.scale": "attn.norm_q.weight", "norm.key_norm.scale": "attn.norm_k.weight"}


def to_single_file(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """From the names of diffusers' Flux2Transformer2DModel to those of the released file; fused parts are joined.

    The inverse of diffusers' `convert_flux2_transformer_checkpoint_to_diffusers`.

    Raises:
        AssertionError: a weight of the model has no name in the released file.
    """
    rest = dict(state_dict)
    result: dict[str, Tensor] = {}

    def take(target: str, sources: tuple[str, ...]) -> None:
        if all(source in rest for source in sources):
            parts = [rest.pop(source) for source in sources]
            result[target] = torch.cat(parts, dim=0) if len(parts) > 1 else parts[0]

    for prefix, block, layers, norms in (
        ("double_blocks", "transformer_blocks", DOUBLE_BLOCK, _NORMS),
        ("single_blocks", "single_transformer_blocks", SINGLE_BLOCK, _SINGLE_NORMS),
    ):
        indices = {int(key.split(".")[1]) for key in state_dict if key.startswith(f"{block}.")}
        for i in sorted(indices):
            for name, sources in layers.items():
                take(f"{prefix}.{i}.{name}.weight", tuple(f"{block}.{i}.{source}.weight" for source in sources))
            for name, source in norms.items():
                take(f"{prefix}.{i}.{name}", (f"{block}.{i}.{source}",))
    for name, sources in OUTER.items():
        take(f"{name}.weight", tuple(f"{source}.weight" for source in sources))
    take("final_layer.adaLN_modulation.1.weight", ("norm_out.linear.weight",))
    modulation = result["final_layer.adaLN_modulation.1.weight"]
    result["final_layer.adaLN_modulation.1.weight"] = swap_halves(modulation)
    assert not rest, f"weights without a name in the released file: {sorted(rest)[:5]}"
    return result
