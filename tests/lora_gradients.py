"""The gradients of a LoRA whose A and B are random, on a model that is under test."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toolkit.config import NetworkConfig
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.randomness import Draws


def lora_gradients(model: BaseModel, *, side: int) -> Mapping[str, Tensor]:
    """The gradient of each weight of a new LoRA of rank 4 on the tiny model, by name.

    The loss is the squared error of the velocity of two samples against a random target; inputs are always the same.

    Args:
        model: with its transformer loaded.
        side: of the latents, [2, 64, side, side].
    """
    network = Network(model, NetworkConfig(type="lora", linear=4), Draws(0))
    network.apply()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if ".lora_B" in name:  # zero at the start, where A would get no gradient
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    latents = torch.randn(2, 64, side, side, generator=generator)
    embeds = torch.randn(2, 48, 192, generator=generator)
    velocity = model.get_noise_prediction(latents, torch.tensor([300.0, 700.0]), Condition(embeds))
    target = torch.randn(velocity.shape, generator=generator)
    names, weights = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad((velocity - target).square().mean(), weights)
    return dict(zip(names, gradients, strict=True))
