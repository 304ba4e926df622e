"""The network: a transformer on pixel patches and the characters of the prompt."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class PixelTransformer(ModelMixin, ConfigMixin):
    """Predicts the velocity of noisy patches. diffusers' base classes add a config and saving in diffusers' layout."""

    _supports_gradient_checkpointing = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, patch_channels: int = 48, text_width: int = 64, width: int = 128, num_blocks: int = 3) -> None:
        super().__init__()
        self.patch_in = nn.Linear(patch_channels, width)
        self.text_in = nn.Linear(text_width, width)
        self.time_in = nn.Linear(64, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(num_blocks))
        self.patch_out = nn.Linear(width, patch_channels)
        self.gradient_checkpointing = False

    def forward(self, latents: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        """Predict the velocity [B, C, h, w] of latents [B, C, h, w] at sigma [B] for text [B, L, D]."""
        patches = self.patch_in(latents.flatten(2).transpose(1, 2))  # [B, h * w, width]
        tokens = torch.cat([self.text_in(text), patches + _positions(latents, width=patches.shape[2]).to(patches.dtype)], dim=1)
        frequencies = torch.arange(1, 33, device=sigma.device) * torch.pi
        angles = sigma[:, None] * frequencies  # [B, 32]
        time = self.time_in(torch.cat([angles.sin(), angles.cos()], dim=1).to(patches.dtype))
        tokens = tokens + time[:, None]
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = self._gradient_checkpointing_func(block, tokens)
            else:
                tokens = block(tokens)
        return self.patch_out(tokens[:, text.shape[1] :]).transpose(1, 2).reshape(latents.shape)


class Block(nn.Module):
    """A transformer block: attention and an MLP, each with a residual connection."""

    def __init__(self, width: int, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B, S, width] to tokens of the same shape."""
        heads = self.qkv(self.norm_1(tokens)).unflatten(2, (3, self.num_heads, -1))  # [B, S, 3, H, width / H]
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(attended)
        return tokens + self.mlp_out(nn.functional.gelu(self.mlp_in(self.norm_2(tokens))))


def _positions(latents: Tensor, *, width: int) -> Tensor:
    """Sinusoidal embedding of rows and columns, [1, h * w, width]."""
    height, columns = latents.shape[-2:]
    rows = torch.arange(height, device=latents.device).repeat_interleave(columns)
    across = torch.arange(columns, device=latents.device).repeat(height)
    frequencies = 0.01 ** (torch.arange(width // 4, device=latents.device) * 4 / width)
    angles = torch.cat([rows[:, None] * frequencies, across[:, None] * frequencies], dim=1)  # [h * w, width / 2]
    return torch.cat([angles.sin(), angles.cos()], dim=1)[None]
