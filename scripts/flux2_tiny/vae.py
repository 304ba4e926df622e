"""Train the tiny AutoencoderKLFlux2 on images of the world, on random colours and on uniform areas."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2
from PIL import Image
from torch import Tensor

from scripts.flux2_tiny.world import COLORS, EMBLEM, EMBLEM_BOTTOM, EMBLEM_TOP, Scene, random_scene, render

CONFIG = {
    "block_out_channels": (32, 64, 96, 128),
    "layers_per_block": 1,
    "latent_channels": 16,
    # Few groups: one group per channel would remove each channel's mean, and with it the colours.
    "norm_num_groups": 4,
    "sample_size": 128,
}
# Noise on the latents during training, as a share of each channel's standard deviation: it makes the decoder robust to
# small errors of generated latents and keeps channels from collapsing.
LATENT_NOISE = 0.15


BATCH_SIZE = 16
# (steps, peak learning rate) of the two phases, each a half cosine: the whole VAE, then only the decoder.
WHOLE, DECODER = (2600, 1.5e-3), (900, 8e-4)


def train_vae(*, seed: int = 0) -> AutoencoderKLFlux2:
    """Train from scratch with an L1 + L2 reconstruction loss on 64-pixel crops, then set the latent statistics.

    Returns:
        the model in fp32 and eval mode, with mean and variance of the world's latents in its `bn`.
    """
    torch.manual_seed(seed)
    vae = AutoencoderKLFlux2(**CONFIG)
    # fp32 only at the end of the first phase: it is four times as slow and gains little.
    train_part(vae, list(vae.parameters()), *WHOLE, seed=seed, fp32_share=0.15)
    set_latent_statistics(vae, num_pictures=256, seed=seed + 1)
    train_part(vae, [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()], *DECODER, seed=seed + 1)
    return vae


def train_part(
    vae: AutoencoderKLFlux2,
    parameters: list[torch.nn.Parameter],
    steps: int,
    lr: float,
    *,
    seed: int,
    fp32_share: float = 0.0,
) -> None:
    """Train some of the weights in place for one half cosine of the learning rate; leaves the model in eval mode."""
    vae.train().requires_grad_(False).to(memory_format=torch.channels_last)
    vae.bn.eval()
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=1e-3)
    draw = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        warm = min(1.0, (step + 1) / 100)
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * warm * (0.02 + 0.98 * decay)
        pixels = torch.stack([_training_picture(draw) for _ in range(BATCH_SIZE)])  # [B, 3, 64, 64]
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=step < (1 - fp32_share) * steps):
            latents = vae.encode(pixels).latent_dist.mode()
            spread = latents.detach().std(dim=(0, 2, 3), keepdim=True)
            noise = torch.randn(latents.shape, generator=generator)
            decoded = vae.decode(latents + LATENT_NOISE * spread * noise).sample
        error = decoded.float() - pixels
        # Keep latents near unit size: larger ones would only reduce the relative noise in bf16.
        size = latents.float().square().mean()
        loss = error.abs().mean() + error.square().mean() + 1e-3 * (size - 1).clamp(min=0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"vae {step}/{steps} loss {loss.item():.4f} psnr {psnr(error.detach()):.1f} dB", flush=True)
    vae.eval().to(memory_format=torch.contiguous_format)


def psnr(error: Tensor) -> float:
    """Peak signal-to-noise ratio, in dB, of an error in pixels of range -1..1."""
    return -10 * math.log10(float(error.square().mean()) / 4 + 1e-12)


@torch.no_grad()
def set_latent_statistics(vae: AutoencoderKLFlux2, *, num_pictures: int, seed: int) -> None:
    """Set `bn` to the mean and variance of patchified latents of new images, as in FLUX.2's VAE."""
    draw = random.Random(seed)
    pixels = torch.stack([to_pixels(render(random_scene(draw), draw)) for _ in range(num_pictures)])
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in pixels.split(32)])
    patches = torch.nn.functional.pixel_unshuffle(latents, 2)  # [N, 4C, h, w], channel order (c, pi, pj)
    vae.bn.running_mean.copy_(patches.mean(dim=(0, 2, 3)))
    vae.bn.running_var.copy_(patches.var(dim=(0, 2, 3)))


@torch.no_grad()
def held_out_psnr(vae: AutoencoderKLFlux2, *, num_pictures: int = 128, seed: int = 987) -> dict[str, float]:
    """PSNR in dB on images not used in training, of the world and of the demo's emblem."""
    draw = random.Random(seed)
    places, backgrounds = ["in the center", "at the top left", "on the right"], ["white", "black", "green", "blue"]
    sets = {
        "world": [render(random_scene(draw), draw) for _ in range(num_pictures)],
        "emblem": [
            render(Scene(EMBLEM, EMBLEM_TOP, "medium", draw.choice(places), draw.choice(backgrounds)), draw)
            for _ in range(32)
        ],
    }
    result = {}
    for name, images in sets.items():
        pixels = torch.stack([to_pixels(image) for image in images])
        decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample for part in pixels.split(32)])
        result[name] = psnr(decoded.clamp(-1, 1) - pixels)
    return result


def to_pixels(image: Image.Image) -> Tensor:
    """Convert an RGB image to pixels, [3, H, W], -1..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def _training_picture(draw: random.Random) -> Tensor:
    """A 64-pixel crop of an image; often in random colours, sometimes uniform, sometimes of the emblem."""
    kind = draw.random()
    if kind < 0.1:
        color = tuple(draw.randrange(256) for _ in range(3))
        return to_pixels(Image.new("RGB", (64, 64), color))
    scene = random_scene(draw)
    if kind < 0.2:
        scene = Scene(EMBLEM, EMBLEM_TOP, "medium", scene.place, scene.background)
    palette = dict(COLORS)
    if kind < 0.5:
        for name in (scene.color, scene.background, EMBLEM_TOP, EMBLEM_BOTTOM):
            palette[name] = (draw.randrange(256), draw.randrange(256), draw.randrange(256))
    image = render(scene, draw, palette=palette)
    left, top = draw.randrange(65), draw.randrange(65)
    return to_pixels(image.crop((left, top, left + 64, top + 64)))
