"""Recipes for FLUX.2's transformer and VAE from files in any of their layouts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

from extensions_built_in.diffusion_models.flux2.released_files import transformer_tensors, vae_tensors
from toolkit.cards import find_cards
from toolkit.errors import UserError
from toolkit.weights.kl_vae import block_widths, count_blocks, kl_vae_config
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe, config_of, read_stored
from toolkit.weights.streaming import Shapes

TEXT_LAYER = "context_embedder"


def transformer_recipe(files: ComponentFiles, *, arch: str) -> Recipe:
    """The recipe for the transformer.

    Raises:
        UserError: the files are damaged or incomplete, or belong to another model or arch than the job's.
    """
    stored = read_stored(files, transformer_tensors)
    check_arch(stored.described(build_of, "transformer"), arch, path=files.path)
    config = config_of(files) or stored.described(transformer_config, "transformer")
    return stored.recipe(Flux2Transformer2DModel, config, what=f"transformer of {arch}")


def text_layer_recipe(files: ComponentFiles, *, arch: str) -> Recipe:
    """The recipe for the transformer's first layer for text alone; raises what `transformer_recipe` does."""
    layer = transformer_recipe(files, arch=arch).module.get_submodule(TEXT_LAYER)
    return read_stored(files, transformer_tensors).part(TEXT_LAYER, layer)


def prompt_width(path: Path) -> int | None:
    """Width of the prompt embeddings that a transformer expects; None if it is incomplete or not on this machine.

    Args:
        path: a single file, or a folder in diffusers layout.

    Raises:
        UserError: the file is damaged or not that of a FLUX.2 transformer.
    """
    config = path / "transformer" / "config.json"
    if path.is_file():
        stored = read_stored(ComponentFiles(path, None, (path,)), transformer_tensors)
        return stored.shapes.get(f"{TEXT_LAYER}.weight", (None, None))[1]
    width: int | None = (
        json.loads(config.read_text(encoding="utf-8")).get("joint_attention_dim") if config.is_file() else None
    )
    return width


def vae_recipe(files: ComponentFiles) -> Recipe:
    """The recipe for the VAE, with the full or the small decoder.

    Raises:
        UserError: the files are damaged, incomplete or those of another VAE.
    """
    stored = read_stored(files, vae_tensors)
    config = config_of(files) or stored.described(vae_config, "VAE")
    return stored.recipe(AutoencoderKLFlux2, config, what="VAE of FLUX.2", optional=["bn.num_batches_tracked"])


@dataclass(frozen=True)
class Build:
    """The sizes that distinguish the FLUX.2 transformers; `num_double` and `num_single` count blocks."""

    hidden: int
    joint_dim: int
    num_double: int
    num_single: int
    has_guidance: bool


# Sources: the configurations in Black Forest Labs' reference code.
RELEASED = {
    "flux2": Build(hidden=6144, joint_dim=15360, num_double=8, num_single=48, has_guidance=True),
    "flux2_klein_9b": Build(hidden=4096, joint_dim=12288, num_double=8, num_single=24, has_guidance=False),
    # The same shapes as klein 9B: only names distinguish the two.
    "flux2_klein_9b_kv": Build(hidden=4096, joint_dim=12288, num_double=8, num_single=24, has_guidance=False),
    "flux2_klein_4b": Build(hidden=3072, joint_dim=7680, num_double=5, num_single=20, has_guidance=False),
}


def build_of(shapes: Shapes) -> Build:
    """The build of a transformer whose tensors have diffusers' names.

    Raises:
        KeyError: the tensors are not those of a FLUX.2 transformer.
    """
    hidden, _ = shapes["x_embedder.weight"]
    return Build(
        hidden=hidden,
        joint_dim=shapes["context_embedder.weight"][1],
        num_double=count_blocks(shapes, "transformer_blocks"),
        num_single=count_blocks(shapes, "single_transformer_blocks"),
        has_guidance="time_guidance_embed.guidance_embedder.linear_1.weight" in shapes,
    )


def check_arch(build: Build, arch: str, *, path: Path) -> None:
    """Reject weights of another FLUX.2 variant than the job's.

    Sizes that were never released, such as those of tests and pruned models, are accepted if the kind is right.

    Raises:
        UserError: the weights belong to another arch, which the message names.
    """
    cards = find_cards()
    own = RELEASED.get(arch)
    for other, released in RELEASED.items():
        if released != own and (build.hidden, build.joint_dim) == (released.hidden, released.joint_dim):
            raise UserError(f"{path} is {cards[other].label}, but the job has `arch: {arch}`. Set `arch: {other}`.")
    needs_guidance = "guidance_embed" in cards[arch].capabilities
    if build.has_guidance != needs_guidance:
        kind, archs = _kind(build.has_guidance)
        raise UserError(f"{path} is a {kind} model, but the job has `arch: {arch}`. Set `arch` to {archs}.")
    if own is not None and build.hidden == own.hidden and build != own:
        blocks = f"{build.num_double} + {build.num_single} blocks instead of {own.num_double} + {own.num_single}"
        raise UserError(f"{path}: has {blocks}. It is incomplete or not {cards[arch].label}: download it again.")


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """Constructor arguments of diffusers' Flux2Transformer2DModel, inferred from tensors with its names."""
    build = build_of(shapes)
    block = "transformer_blocks.0." if build.num_double else "single_transformer_blocks.0."
    (head_dim,) = shapes[f"{block}attn.norm_q.weight"]
    config = {
        "in_channels": shapes["x_embedder.weight"][1],
        "out_channels": shapes["proj_out.weight"][0],
        "num_layers": build.num_double,
        "num_single_layers": build.num_single,
        "attention_head_dim": head_dim,
        "num_attention_heads": build.hidden // head_dim,
        "joint_attention_dim": build.joint_dim,
        "timestep_guidance_channels": shapes["time_guidance_embed.timestep_embedder.linear_1.weight"][1],
        "axes_dims_rope": (head_dim // 4,) * 4,
        "guidance_embeds": build.has_guidance,
    }
    if build.num_double:
        config["mlp_ratio"] = shapes["transformer_blocks.0.ff.linear_out.weight"][1] / build.hidden
    return config


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Constructor arguments of diffusers' AutoencoderKLFlux2, inferred from tensors with its names.

    Raises:
        KeyError: the tensors are not those of such a VAE.
    """
    config = kl_vae_config(shapes)
    decoder_widths = tuple(reversed(block_widths(shapes, "decoder.up_blocks")))
    same = decoder_widths == config["block_out_channels"]
    return {**config, "decoder_block_out_channels": None if same else decoder_widths}


def _kind(has_guidance: bool) -> tuple[str, str]:
    if has_guidance:
        return "dev", "flux2"
    return "klein", "flux2_klein_4b or flux2_klein_9b"
