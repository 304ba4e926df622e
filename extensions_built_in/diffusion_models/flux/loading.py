"""Recipes for FLUX.1's transformer and VAE from files in any of their layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, FluxTransformer2DModel

from extensions_built_in.diffusion_models.flux.latents import NORMALISATION
from extensions_built_in.diffusion_models.flux.released_files import transformer_tensors, vae_tensors
from toolkit.cards import find_cards
from toolkit.errors import UserError
from toolkit.weights.kl_vae import count_blocks, kl_vae_config
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe, config_of, read_stored
from toolkit.weights.streaming import Shapes


def transformer_recipe(files: ComponentFiles, *, arch: str) -> Recipe:
    """The recipe for the transformer.

    Raises:
        UserError: the files are damaged or incomplete, or belong to another model or arch than the job's.
    """
    stored = read_stored(files, transformer_tensors)
    config = {**stored.described(transformer_config, "transformer"), **(config_of(files) or {})}
    check_arch(config, arch, path=files.path)
    return stored.recipe(FluxTransformer2DModel, config, what=f"transformer of {arch}")


def vae_recipe(files: ComponentFiles) -> Recipe:
    """The recipe for the VAE.

    Raises:
        UserError: the files are damaged, incomplete or those of another VAE.
    """
    stored = read_stored(files, vae_tensors)
    config = {**stored.described(vae_config, "VAE"), **(config_of(files) or {})}
    return stored.recipe(AutoencoderKL, config, what="VAE of FLUX.1")


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """Constructor arguments of diffusers' FluxTransformer2DModel, inferred from tensors with its names.

    Raises:
        KeyError: the tensors are not those of a FLUX.1 transformer.
    """
    num_double = count_blocks(shapes, "transformer_blocks")
    hidden, in_channels = shapes["x_embedder.weight"]
    block = "transformer_blocks.0." if num_double else "single_transformer_blocks.0."
    (head_dim,) = shapes[f"{block}attn.norm_q.weight"]
    time_dim = head_dim // 8  # 16 of 128; height and width share the rest equally
    return {
        "in_channels": in_channels,
        "out_channels": shapes["proj_out.weight"][0],
        "num_layers": num_double,
        "num_single_layers": count_blocks(shapes, "single_transformer_blocks"),
        "attention_head_dim": head_dim,
        "num_attention_heads": hidden // head_dim,
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "pooled_projection_dim": shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in shapes,
        "axes_dims_rope": (time_dim, (head_dim - time_dim) // 2, (head_dim - time_dim) // 2),
    }


def check_arch(config: Mapping[str, Any], arch: str, *, path: Path) -> None:
    """Reject weights of a FLUX.1 variant that does not fit the job's arch.

    Kontext and dev have the same shapes: only the user knows which of the two it is.

    Raises:
        UserError: the weights lack the guidance embedding that the arch needs, or take more inputs than latents.
    """
    if config["in_channels"] != (config.get("out_channels") or config["in_channels"]):
        raise UserError(
            f"{path}: a FLUX.1 model with an extra image input (Fill, Depth or Canny), which cannot be trained here. "
            "Use FLUX.1 [dev] or Kontext."
        )
    if arch == "flux_kontext" and not config["guidance_embeds"]:
        label = find_cards()[arch].label
        raise UserError(f"{path}: no guidance embedding, as in schnell, so it is not {label}. Set `arch: flux`.")


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Constructor arguments of diffusers' AutoencoderKL, inferred from tensors with its names.

    Raises:
        KeyError: the tensors are not those of such a VAE.
    """
    return {**kl_vae_config(shapes), **NORMALISATION, "force_upcast": True}
