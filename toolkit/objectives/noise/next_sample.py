"""`timestep_type: next_sample`: training continues from where the model's own sampling step leads."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from toolkit.objectives.noise.timesteps import level_before
from toolkit.objectives.path import mix
from toolkit.objectives.point import Point


def noise_of_next_sample(point: Point, noise: Tensor, *, num_steps: int) -> Tensor:
    """The noise with which clean latents mix to what the model's step down to the point's sigma gives, [B, C, h, w].

    The step starts one level higher of a sampler with `num_steps`, with the given noise; it has no gradient.

    Source: ai-toolkit's `next_sample`.
    """
    latents, sigma = point.batch.latents, point.sigma
    start = level_before(sigma, point.batch.num_tokens, num_steps=num_steps)
    noisy = mix(latents, noise, start)
    with torch.no_grad():
        velocity = replace(point, noisy_latents=noisy, sigma=start).velocity()
    sigma, start = sigma.view(-1, 1, 1, 1), start.view(-1, 1, 1, 1)
    reached = noisy + (sigma - start) * velocity
    return (reached - (1 - sigma) * latents) / sigma
