"""The step of musubi-tuner's own FLUX.2 and LoRA beside ours, from a checkout that `MUSUBI_TUNER` names."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.lean_arms import Arm, loop
from benchmarks.lean_sizes import CPU, Size
from benchmarks.random_model import position_ids
from extensions_built_in.diffusion_models.flux2.released_files import to_single_file
from toolkit.errors import UserError
from toolkit.runtime.devices import autocast

VARIABLE = "MUSUBI_TUNER"


def musubi(size: Size, *, recomputes: bool, dtype: torch.dtype) -> Arm:
    """Its transformer with the weights of `size`, and its LoRA on every linear layer of the blocks, in a plain loop.

    Args:
        size: the model and its inputs; references are not given to it.
        recomputes: with its gradient checkpointing.
        dtype: the frozen weights', and autocast's.

    Raises:
        UserError: `MUSUBI_TUNER` names no checkout, or it needs a package that is missing.
    """
    models, adapters = _module("flux_2.flux2_models"), _module("networks.lora_flux_2")
    weights: Any = size.transformer(dtype)
    config = weights.config
    heads, head_dim = config.num_attention_heads, config.attention_head_dim
    parameters = models.Flux2Params(
        in_channels=config.in_channels,
        context_in_dim=config.joint_attention_dim,
        hidden_size=heads * head_dim,
        num_heads=heads,
        depth=config.num_layers,
        depth_single_blocks=config.num_single_layers,
        axes_dim=list(config.axes_dims_rope),
        theta=config.rope_theta,
        mlp_ratio=config.mlp_ratio,
        use_guidance_embed=config.guidance_embeds,
    )
    with torch.device("meta"):
        model = models.Flux2(parameters, attn_mode="torch")
    model.load_state_dict(to_single_file(weights.state_dict()), assign=True)
    model.requires_grad_(False)
    if recomputes:
        model.enable_gradient_checkpointing()
    model.train()
    network = adapters.create_arch_network(1.0, size.rank, size.rank, None, None, model)
    network.apply_to(None, model, apply_text_encoder=False)
    trained: dict[str, list[Tensor]] = {}
    names = {f"lora_unet_{name}".replace(".", "_"): name for name, _ in model.named_modules()}
    for part in network.unet_loras:
        name = names[part.lora_name]
        trained |= {f"{name}.A": [part.lora_down.weight], f"{name}.B": [part.lora_up.weight]}
    inputs = size.inputs(config)
    embeds, guidance = inputs.embeds.to(dtype), torch.ones(size.batch, dtype=dtype)
    ids = [value.expand(size.batch, -1, -1) for value in position_ids(size.side, size.num_text, CPU)]

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        tokens, text = noisy.flatten(2).transpose(1, 2).to(dtype), embeds.detach()  # [B, S, C]
        if recomputes:  # as its trainer does
            tokens.requires_grad_()
            text.requires_grad_()
        with autocast(CPU, dtype):
            found: Tensor = model(tokens, ids[0], sigma, text, ids[1], guidance)
        return found.transpose(1, 2).reshape(noisy.shape)

    return loop(model, velocity, inputs.latents, trained)


def _module(name: str) -> Any:
    root = os.environ.get(VARIABLE, "")
    source = Path(root, "src")
    if not root or not (source / "musubi_tuner").is_dir():
        raise UserError(f"{VARIABLE}: set it to the folder of a checkout of musubi-tuner; `{root}` is not one.")
    if str(source) not in sys.path:
        sys.path.append(str(source))
    try:
        return import_module(f"musubi_tuner.{name}")
    except ModuleNotFoundError as error:
        raise UserError(f"{VARIABLE}: musubi-tuner needs the package `{error.name}`.") from error
