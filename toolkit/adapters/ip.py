"""IP-Adapter: a few tokens of an image, which the noisy image attends to in every block.

`ip` makes its tokens from one embedding of the whole image; `ip+` gathers them from all patches with a resampler.

Sources: Ye et al. 2023 (arXiv 2308.06721); the resampler is that of Flamingo (Alayrac et al. 2022, arXiv 2204.14198),
with the queries among the keys. Files are laid out like Tencent's, with the keys' norms in addition.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.adapters.size import IP_DEPTH, IP_FEED_FORWARD, ip_width
from toolkit.adapters.token_adapter import FileNames, TokenAdapter
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig

HEAD_SIZE = 64  # of the resampler; less where it does not divide the width
NAMES = FileNames("image_proj", "ip_adapter.{}", key="to_k_ip", value="to_v_ip", norm="norm_k_ip")


class IPAdapter(TokenAdapter):
    """`ip`: tokens from one embedding of the image."""

    def __init__(self, config: AdapterConfig, shape: ViewShape) -> None:
        projector = partial(EmbeddingProjector, shape.width, num_tokens=config.tokens)
        super().__init__(config, projector, names=NAMES, encoder=shape.encoder)


class IPAdapterPlus(TokenAdapter):
    """`ip+`: tokens gathered from all patches of the image."""

    def __init__(self, config: AdapterConfig, shape: ViewShape) -> None:
        projector = partial(Resampler, shape.width, num_tokens=config.tokens)
        super().__init__(config, projector, names=NAMES, encoder=shape.encoder)


class EmbeddingProjector(nn.Module):
    """Tokens from one embedding: LayerNorm(Linear(embedding))."""

    def __init__(self, features: int, *, num_tokens: int, hidden_size: int) -> None:
        super().__init__()
        self.width = width = ip_width(hidden_size)
        self.num_tokens = num_tokens
        self.proj = nn.Linear(features, num_tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, view: Tensor) -> Tensor:
        """Map the features of an image, [B, M, E], whose mean is the embedding, to [B, N, width]."""
        return self.norm(self.proj(view.mean(dim=1)).unflatten(1, (self.num_tokens, -1)))


class Resampler(nn.Module):
    """Tokens that attend to the features and to each other, layer after layer."""

    def __init__(self, features: int, *, num_tokens: int, hidden_size: int) -> None:
        super().__init__()
        self.width = width = ip_width(hidden_size)
        self.latents = nn.Parameter(torch.randn(1, num_tokens, width) / width**0.5)
        self.proj_in = nn.Linear(features, width)
        self.layers = nn.ModuleList(ResamplerLayer(width) for _ in range(IP_DEPTH))
        self.proj_out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, view: Tensor) -> Tensor:
        """Map features [B, M, E] to tokens [B, N, width]."""
        features, tokens = self.proj_in(view), self.latents.expand(len(view), -1, -1)
        for layer in self.layers:
            tokens = layer(features, tokens)
        return self.norm_out(self.proj_out(tokens))


class ResamplerLayer(nn.Module):
    """Attention of the tokens to features and tokens, then an MLP, each added to the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head_size = math.gcd(width, HEAD_SIZE)
        self.norm_features, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_kv = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, IP_FEED_FORWARD * width, bias=False),
            nn.GELU(),
            nn.Linear(IP_FEED_FORWARD * width, width, bias=False),
        )

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Map features [B, M, width] and tokens [B, N, width] to new tokens."""
        own = self.norm_tokens(tokens)
        seen = torch.cat([self.norm_features(features), own], dim=1)  # [B, M + N, width]
        parts = (self.to_q(own), *self.to_kv(seen).chunk(2, dim=2))
        query, key, value = (part.unflatten(2, (-1, self.head_size)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.to_out(mixed)
        return tokens + self.mlp(tokens)
