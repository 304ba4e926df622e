"""Vision direct: the noisy image attends to a vision encoder's own tokens, so that what is where in the image survives.

As in `ip`, without a projector: only a LayerNorm, because encoders' features differ in scale by a factor of ten. With
`positions: grid`, queries and keys also know where they are.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.adapters.attention import RotateByPosition
from toolkit.adapters.reading import Reading
from toolkit.adapters.token_adapter import FileNames, TokenAdapter
from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.sites import Positions

Rotation = tuple[Tensor, Tensor]
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
        self._num_tokens = shape.num_tokens

    def metadata(self) -> dict[str, str]:
        """See Adapter.metadata."""
        return {**super().metadata(), "adapter_positions": self.config.positions}

    def _rotation(self, model: BaseModel) -> RotateByPosition | None:
        """See TokenAdapter._rotation."""
        if self.config.positions == "none":
            return None
        ends = model.get_ends()
        if ends is None:
            raise UserError(
                f"adapter.positions: {model.arch} does not say how it embeds positions. Write `positions: none`."
            )
        return OnImage(ends.positions, self._reading, num_tokens=self._num_tokens)


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


class OnImage:
    """Rotates the noisy image's queries by their own positions, and an adapter's keys by those of a grid of patches.

    The grid covers the image, at the time coordinate of a reference. A token before the patches, such as CLIP's, is at
    the centre.

    Args:
        positions: how the model embeds positions.
        reading: the adapter's inputs.
        num_tokens: number of tokens: those of a square of patches, and one more if there is one before them.
    """

    def __init__(self, positions: Positions, reading: Reading, *, num_tokens: int) -> None:
        self._positions = positions
        self._reading = reading
        self._side = math.isqrt(num_tokens)
        self._num_extra = num_tokens - self._side**2
        self._image: Tensor | None = None
        self._made: dict[torch.device, tuple[Rotation, Rotation]] = {}

    def __call__(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate the queries of the noisy image and the keys of the tokens, each [B, tokens, heads, head size]."""
        of_queries, of_keys = self._rotations(query.device)
        return self._positions.rotated(query, of_queries), self._positions.rotated(key, of_keys)

    def _rotations(self, device: torch.device) -> tuple[Rotation, Rotation]:
        """Those of the current pass, which all layers on a device share."""
        image = self._reading.noisy_positions  # [S, axes]
        if self._image is not image:
            self._image = image
            self._made.clear()
        if device not in self._made:
            placed = image.to(device)
            grid = self._positions.on_image(placed, rows=self._side, columns=self._side)
            centre = self._positions.on_image(placed, rows=1, columns=1).repeat(self._num_extra, 1)
            rotate = self._positions.rotation
            self._made[device] = rotate(placed), rotate(torch.cat([centre, grid]))
        return self._made[device]
