"""FLUX.1's files: which of the layouts they are in."""

from __future__ import annotations

from collections.abc import Collection

from extensions_built_in.diffusion_models.flux.weights import from_single_file
from toolkit.errors import UserError
from toolkit.weights.kl_vae import VAE_LAYOUTS
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.streaming import Convert, recognized, unchanged
from toolkit.weights.tensor_index import TensorIndex

# A tensor that only the layout has -> how its names are converted. FLUX.2 has none of them.
_LAYOUTS: dict[str, Convert] = {
    "vector_in.in_layer.weight": from_single_file,
    "time_text_embed.text_embedder.linear_1.weight": unchanged,
}


def transformer_tensors(index: TensorIndex, files: ComponentFiles) -> tuple[TensorIndex, Convert]:
    """The transformer's tensors of a file, and how they are converted to diffusers' names.

    Raises:
        UserError: the file has another model, or is something else.
    """
    return recognized(index, _LAYOUTS) or _refuse(index.entries, files, "transformer")


def vae_tensors(index: TensorIndex, files: ComponentFiles) -> tuple[TensorIndex, Convert]:
    """The VAE's tensors of a file, and how they are converted to diffusers' names.

    Raises:
        UserError: the file has another VAE, or is something else.
    """
    found = recognized(index, VAE_LAYOUTS)
    if found is None:
        return _refuse(index.entries, files, "VAE")
    if "bn.running_mean" in found[0].entries:
        raise UserError(
            f"{files.path}: is FLUX.2's VAE; its file has the same name as FLUX.1's. Take ae.safetensors of "
            "black-forest-labs/FLUX.1-dev."
        )
    return found


def _refuse(names: Collection[str], files: ComponentFiles, component: str) -> tuple[TensorIndex, Convert]:
    if any(".lora_" in name or ".lokr_" in name for name in names):
        what = "is a LoRA and not a model"
    elif any("double_stream_modulation_img" in name for name in names):
        what = "is a FLUX.2 model: set `arch: flux2`, or flux2_klein_4b or flux2_klein_9b"
    elif any(name.startswith(("encoder.block.", "text_model.")) for name in names):
        what = "is a text encoder: it belongs to model.te_name_or_path"
    else:
        what = f"has other tensors, such as {', '.join(list(names)[:3]) or 'none'}"
    raise UserError(
        f"{files.path}: holds no {component} of FLUX.1: it {what}. Name a released file, a ComfyUI file of one, or a "
        "folder in diffusers layout."
    )
