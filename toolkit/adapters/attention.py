"""Attention to further tokens, added to a model's own: decoupled cross-attention, as in IP-Adapter.

For each attention of the model, z = softmax(q k'/sqrt(d)) v + s * softmax(q k_a'/sqrt(d)) v_a, with the model's own
queries q of the noisy image, after their norm and before position embedding, and with keys and values of the tokens.
Keys may have positions; then both are rotated by theirs.
W_v is zero at the start, so nothing changes; keys are normalised per head like the model's, because its queries are.

Source: Ye et al. 2023, IP-Adapter (arXiv 2308.06721).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.adapters.reading import Reading
from toolkit.models.sites import AttentionSite
from toolkit.randomness import Draws

Tokens = Callable[[torch.device], tuple[Tensor, float]]
RotateByPosition = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Rotates queries and keys, each [B, tokens, heads, head size], by their positions."""


class SiteAttention(nn.Module):
    """Keys and values for one attention layer. fp32 weights.

    Args:
        site: the attention layer.
        width: width of the tokens.
        generator: draws the initial keys, N(0, 1 / width).
        device: device of the weights.
    """

    def __init__(self, site: AttentionSite, *, width: int, generator: torch.Generator, device: torch.device) -> None:
        super().__init__()
        inner = site.num_heads * site.head_size
        self.site = site
        self.rotate: RotateByPosition | None = None
        keys = torch.randn(inner, width, generator=generator) / width**0.5
        self.to_k_ip = nn.Linear(width, inner, bias=False, device=device)
        self.to_v_ip = nn.Linear(width, inner, bias=False, device=device)
        self.to_k_ip.weight = nn.Parameter(keys.to(device))
        self.to_v_ip.weight = nn.Parameter(torch.zeros_like(self.to_k_ip.weight))
        self.norm_k_ip = nn.RMSNorm(site.head_size, eps=1e-6, device=device)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Attend to tokens.

        Args:
            query: [B, S, heads, head size].
            tokens: [B, N, width].

        Returns:
            [B, S, heads * head size].
        """
        batch, count, _ = tokens.shape
        heads = (batch, count, self.site.num_heads, self.site.head_size)
        key = self.norm_k_ip(self.to_k_ip(tokens).view(heads)).to(query.dtype)
        value = self.to_v_ip(tokens).view(heads).to(query.dtype)
        if self.rotate is not None:
            query, key = self.rotate(query, key)
        by_head = [part.transpose(1, 2) for part in (query, key, value)]
        mixed = functional.scaled_dot_product_attention(by_head[0], by_head[1], by_head[2])
        return mixed.transpose(1, 2).flatten(2)


class DecoupledAttention:
    """The attention to an adapter's tokens in all layers that carry it.

    Args:
        sites: the attention layers, in the order of the file.
        reading: the adapter's inputs; no tokens are added while they are None.
        width: width of the tokens.
        draws: the job's random draws.
        devices: the device of each layer, where its weights are put.
    """

    def __init__(
        self,
        sites: Sequence[AttentionSite],
        reading: Reading,
        *,
        width: int,
        draws: Draws,
        devices: Sequence[torch.device],
    ) -> None:
        self.reading = reading
        self.layers = nn.ModuleList(
            SiteAttention(site, width=width, generator=draws.generator("adapter keys", index), device=device)
            for index, (site, device) in enumerate(zip(sites, devices, strict=True))
        )
        self._queries: dict[int, Tensor] = {}

    def attach(self, tokens: Tokens, *, rotate: RotateByPosition | None = None) -> None:
        """Hook into the model.

        Args:
            tokens: returns the tokens of the current pass, [B, N, width], on a given device, and their strength.
            rotate: rotates queries and keys by their positions; None for keys without positions.
        """
        for index, layer in enumerate(self.layers):
            layer.rotate = rotate  # type: ignore[assignment]
            site: AttentionSite = layer.site  # type: ignore[assignment]
            site.query.register_forward_hook(partial(self._take_query, index, site))
            site.output.register_forward_pre_hook(partial(self._add, index, layer, tokens))

    def _take_query(self, index: int, site: AttentionSite, module: nn.Module, arguments: Any, query: Tensor) -> None:
        if self.reading.inputs is not None:
            self._queries[index] = query[:, self.reading.noisy_tokens(query.shape[1], is_joint=site.is_joint)]

    def _add(self, index: int, layer: Any, tokens: Tokens, module: nn.Module, arguments: tuple[Any, ...]) -> Any:
        query = self._queries.pop(index, None)
        if query is None:
            return None
        hidden, *rest = arguments
        current, strength = tokens(query.device)
        added = strength * layer(query, current)
        span = self.reading.noisy_tokens(hidden.shape[1], is_joint=layer.site.is_joint)
        return (AddToPart.apply(hidden, added.to(hidden.dtype), span.start), *rest)


class AddToPart(torch.autograd.Function):
    """Adds to some tokens and channels of a sequence. Padding the addition would write and read its whole length."""

    @staticmethod
    def forward(hidden: Tensor, added: Tensor, first: int) -> Tensor:
        """`hidden`, [B, S, D], with `added`, [B, n, d], on its tokens from number `first` on and its first channels."""
        total = hidden.clone()
        total[:, first : first + added.shape[1], : added.shape[2]] += added
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        """Remember where the part is."""
        _, added, ctx.first = inputs
        ctx.last, ctx.width = ctx.first + added.shape[1], added.shape[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradient of a sum: for the part, that of the part."""
        return gradient, gradient[:, ctx.first : ctx.last, : ctx.width], None

    @staticmethod
    def jvp(ctx: Any, hidden: Tensor, added: Tensor, first: None) -> Tensor:
        """The derivative of a sum, for objectives that differentiate the network forwards."""
        return AddToPart.forward(hidden, added, ctx.first)
