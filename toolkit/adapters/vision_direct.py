"""Vision direct: the noisy image attends to a vision encoder's own tokens, so that what is where in the image survives.

As in `ip`, without a projector: only a LayerNorm, because encoders' features differ in scale by a factor of ten.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from toolkit.adapters.token_adapter import FileNames, TokenAdapter
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig

NAMES = FileNames(
    "dvadapter.norm",
    "dvadapter.adapter_modules.{}",
    key="to_k_adapter",
    value="to_v_adapter",
    norm="norm_k_adapter",
)


class VisionDirectAdapter(TokenAdapter):
    """`vision_direct`."""

    def __init__(self, config: AdapterConfig, shape: ViewShape) -> None:
        projector = partial(PooledNorm, shape.width, num_tokens=config.tokens)
        super().__init__(config, projector, names=NAMES, encoder=shape.encoder)


class PooledNorm(nn.Module):
    """LayerNorm of the features, of which neighbours are averaged if there are to be fewer tokens."""

    def __init__(self, width: int, *, num_tokens: int | None, hidden_size: int) -> None:
        super().__init__()
        self.width = width
        self.num_tokens = num_tokens
        self.norm = nn.LayerNorm(width)

    def forward(self, view: Tensor) -> Tensor:
        """Map features [B, M, E] to tokens [B, N, E]."""
        if self.num_tokens is not None and self.num_tokens < view.shape[1]:
            view = functional.adaptive_avg_pool1d(view.transpose(1, 2), self.num_tokens).transpose(1, 2)
        return self.norm(view)
