"""Exchange of tokens among the processes that share a sequence, in steps that can be differentiated forwards too.

diffusers' own operations have a rule for backward only. Where a model is differentiated with respect to its inputs
(`torch.func.jvp`), these take their place: an exchange is linear, so the tangents go the way of the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks import context_parallel
from diffusers.models import attention_dispatch
from torch import Tensor
from torch.distributed import ProcessGroup, get_rank, get_world_size
from torch.distributed._functional_collectives import all_gather_tensor, all_to_all_single, wait_tensor
from torch.nn.functional import scaled_dot_product_attention


@contextmanager
def forward_derivatives() -> Iterator[None]:
    """Within the `with` block, a shared transformer of diffusers can be differentiated forwards."""
    kept = attention_dispatch.TemplatedUlyssesAttention, context_parallel.AllGatherFunction
    _replace(_Attention, _Gather)
    try:
        yield
    finally:
        _replace(*kept)


def _replace(attention: Any, gather: Any) -> None:
    setattr(attention_dispatch, "TemplatedUlyssesAttention", attention)  # noqa: B010 - mypy lets no class be assigned
    setattr(context_parallel, "AllGatherFunction", gather)  # noqa: B010


class _Attention:
    """Called like diffusers' function: tokens are exchanged for heads, attended to, and exchanged back."""

    @staticmethod
    def apply(query: Tensor, key: Tensor, value: Tensor, mask: None, *settings: Any) -> Tensor:
        """The attention of this process's queries, [B, S, H, D]; so are all arguments."""
        dropout, is_causal, scale, *_, config = settings
        assert mask is None, "sequences that are shared have no padding"
        assert not dropout
        assert not is_causal
        group = config.context_parallel_config._ulysses_mesh.get_group()
        query, key, value = (_Exchange.apply(one, group, True).transpose(1, 2) for one in (query, key, value))
        found = scaled_dot_product_attention(query, key, value, scale=scale)  # [B, H / n, n * S, D]
        exchanged: Tensor = _Exchange.apply(found.transpose(1, 2), group, False)
        return exchanged


class _Exchange(torch.autograd.Function):
    """Exchanges, within a group of n, the parts of a tensor: all heads of some tokens, some heads of all tokens."""

    @staticmethod
    def forward(tensor: Tensor, group: ProcessGroup, gives_heads: bool) -> Tensor:
        """[B, S, H, D] becomes [B, n * S, H / n, D] if the process gives heads away for tokens, or the other way."""
        size = get_world_size(group)
        given, taken = (2, 1) if gives_heads else (1, 2)
        parts = torch.stack(tensor.chunk(size, dim=given)).contiguous()
        parts = wait_tensor(all_to_all_single(parts.flatten(), None, None, group)).view(parts.shape)
        return torch.cat(parts.unbind(), dim=taken)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ProcessGroup, bool], output: Tensor) -> None:
        """Remember with whom, and in which direction."""
        _, ctx.group, ctx.gives_heads = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The gradient goes back the way of the value."""
        return _Exchange.apply(gradient, ctx.group, not ctx.gives_heads), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        """The tangent goes the way of the value."""
        moved: Tensor = _Exchange.apply(tangent, ctx.group, ctx.gives_heads)
        return moved


class _Gather(torch.autograd.Function):
    """Joins the parts of a tensor that the processes of a group hold; each goes on with the whole."""

    @staticmethod
    def forward(part: Tensor, dim: int, group: ProcessGroup) -> Tensor:
        """The whole tensor."""
        return wait_tensor(all_gather_tensor(part.contiguous(), dim, group))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, ProcessGroup], output: Tensor) -> None:
        """Remember what has been joined."""
        _, ctx.dim, ctx.group = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Every process computes the same from the whole: its part of that gradient is all of the part's."""
        return gradient.chunk(get_world_size(ctx.group), dim=ctx.dim)[get_rank(ctx.group)], None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        """The tangents are joined as the values are."""
        joined: Tensor = _Gather.apply(tangent, ctx.dim, ctx.group)
        return joined
