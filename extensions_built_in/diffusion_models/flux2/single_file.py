"""FLUX.2's single files: from the released names to diffusers', one tensor at a time."""

from __future__ import annotations

from collections.abc import Collection

from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from torch import Tensor

from toolkit.errors import UserError
from toolkit.weights.kl_vae import VAE_LAYOUTS
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.streaming import Convert, recognized, unchanged
from toolkit.weights.tensor_index import TensorIndex

# A tensor that only the layout has -> how its names are converted.
_RELEASED_TRANSFORMER = "double_stream_modulation_img.lin.weight"
_DIFFUSERS_TRANSFORMER = "double_stream_modulation_img.linear.weight"


def transformer_tensors(index: TensorIndex, files: ComponentFiles) -> tuple[TensorIndex, Convert]:
    """The transformer's tensors of a file, and how they are converted to diffusers' names.

    Raises:
        UserError: the file has another model, or is something else.
    """
    layouts = {_RELEASED_TRANSFORMER: _transformer_part, _DIFFUSERS_TRANSFORMER: unchanged}
    return recognized(index, layouts) or _refuse(index.entries, files, "transformer")


def vae_tensors(index: TensorIndex, files: ComponentFiles) -> tuple[TensorIndex, Convert]:
    """The VAE's tensors of a file, and how they are converted to diffusers' names.

    Raises:
        UserError: the file has another VAE, half of one, or is something else.
    """
    found = recognized(index, VAE_LAYOUTS)
    if found is None:
        if any("conv_norm_out" in name or "up.0.block.0" in name for name in index.entries):
            raise UserError(
                f"{files.path}: has the decoder only, and training encodes images. Use the file with both, such as "
                "full_encoder_small_decoder.safetensors."
            )
        return _refuse(index.entries, files, "VAE")
    if "bn.running_mean" not in found[0].entries:
        raise UserError(
            f"{files.path}: is not FLUX.2's VAE: the statistics of its latents (bn.running_mean) are missing. "
            "FLUX.1's file has the same name. Take ae.safetensors of black-forest-labs/FLUX.2-dev."
        )
    return found


def _transformer_part(name: str, tensor: Tensor) -> dict[str, Tensor]:
    try:
        return convert_flux2_transformer_checkpoint_to_diffusers({name: tensor})
    except KeyError:
        return {name: tensor}  # not a name of this model: the comparison with the model reports it


def _refuse(names: Collection[str], files: ComponentFiles, component: str) -> tuple[TensorIndex, Convert]:
    if any(".lora_" in name or ".lokr_" in name for name in names):
        what = "is a LoRA and not a model"
    elif any("img_mod.lin" in name or "norm1_context.linear" in name for name in names):
        what = "is a FLUX.1 model: set `arch: flux`, or flux_kontext"
    elif any(name.startswith(("model.layers.", "language_model.")) for name in names):
        what = "is a text encoder: it belongs to model.te_name_or_path"
    else:
        what = f"has other tensors, such as {', '.join(list(names)[:3]) or 'none'}"
    raise UserError(
        f"{files.path}: holds no {component} of FLUX.2: it {what}. Name a released file, a ComfyUI file of one, or a "
        "folder in diffusers layout."
    )
