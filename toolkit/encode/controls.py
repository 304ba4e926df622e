"""What a control adapter reads of each batch and sample: latents of its pictures, and a mask where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.adapters.adapter_set import control_name
from toolkit.adapters.control.control_lora import MASK_CELL_PX
from toolkit.config import AdapterConfig, SampleItem
from toolkit.data.controls import sample_controls
from toolkit.data.examples import Example, Reference
from toolkit.data.images import Color, load_opacity
from toolkit.encode.pictures import ImageEncoder
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.models.vae_precision import vae_precision
from toolkit.randomness import Draws


@dataclass(frozen=True, eq=False)
class Controls:
    """The inputs of one control adapter.

    A map has the channels of the first picture, its mask (1 where the image is to be painted) if the adapter has an
    inpainting input, and then those of the other pictures. What is missing is zero, as with the adapter off.

    Attributes:
        index: position of the adapter in the job's list.
        adapter: the adapter's settings.
        images: the encoded pictures of all examples.
        background: red, green, blue (0..255) shown behind transparent pixels of a sample's pictures.
    """

    index: int
    adapter: AdapterConfig
    images: ImageEncoder
    background: Color = (0, 0, 0)
    _masks: dict[Reference, Tensor] = field(default_factory=dict, init=False, repr=False)

    def of_batch(
        self,
        examples: Sequence[Example],
        latents: Sequence[Tensor],
        draws: Draws,
        counters: Sequence[tuple[int, int]] | None,
    ) -> dict[str, Tensor]:
        """The adapter's input for a batch, [B, K, h, w], by its name among a condition's extras.

        Args:
            examples: the members of the batch.
            latents: latents of the pictures, each [C, h, w].
            draws: draws which members are trained without controls, or with an inverted mask.
            counters: number of the batch and of the example, for each member; None: all controls are as they are.
        """
        pictures = [list(example.controls) for example in examples]
        if counters is not None:
            pictures = [self._drawn(*member, draws) for member in zip(pictures, counters, strict=True)]
        maps = [
            self._map([self._encoded(picture) for picture in controls], controls, own)
            for controls, own in zip(pictures, latents, strict=True)
        ]
        return {control_name(self.index): torch.stack(maps)}

    def of_sample(self, item: SampleItem, model: BaseModel) -> Mapping[str, Tensor]:
        """The adapter's input for a sample, [K, h, w]; none if the sample has no controls, so that the adapter is off.

        Raises:
            UserError: a picture cannot be read.
        """
        divisor = model.get_bucket_divisibility()
        pictures, problems = sample_controls(item, self.adapter, divisor=divisor, background=self.background)
        if problems:
            raise UserError("\n".join(str(problem) for problem in problems))
        if not pictures:
            return {}
        model.load("vae")
        with torch.no_grad(), vae_precision(model.vae):
            encoded = [self.images.encode(picture) for picture in pictures]
        missing = [None] * (self.adapter.num_control_images - len(pictures))
        return {control_name(self.index): self._map([*encoded, *missing], [*pictures, *missing], encoded[0])}

    def _drawn(
        self, controls: list[Reference | None], counter: tuple[int, int], draws: Draws
    ) -> list[Reference | None]:
        """The controls of a member of a batch; none if they are dropped, and perhaps with an inverted mask."""
        dropped = draws.python("control dropout", *counter).random() < self.adapter.control_image_dropout
        inverted = draws.python("mask inversion", *counter).random() < self.adapter.invert_inpaint_mask_chance
        if dropped:
            return [None] * len(controls)
        if inverted and controls and controls[0] is not None:
            return [replace(controls[0], is_inverted=True), *controls[1:]]
        return controls

    def _map(self, encoded: Sequence[Tensor | None], pictures: Sequence[Reference | None], like: Tensor) -> Tensor:
        parts = [torch.zeros_like(like) if latents is None else latents.to(like) for latents in encoded]
        if self.adapter.has_inpainting_input:
            parts.insert(1, self._mask(pictures[0], like))
        return torch.cat(parts)

    def _encoded(self, picture: Reference | None) -> Tensor | None:
        return None if picture is None else self.images[picture]

    def _mask(self, picture: Reference | None, like: Tensor) -> Tensor:
        """The mask on the grid of the latents, [cells per latent, h, w]: 1 where the image is to be painted."""
        height, width = like.shape[-2:]
        if picture is None:
            cells = (self.images.model.get_bucket_divisibility() // MASK_CELL_PX) ** 2
            tokens = self.images.model.tokens_of(like.unsqueeze(0)).shape[1]
            return like.new_zeros(cells * tokens // (height * width), height, width)
        if picture not in self._masks:
            self._masks[picture] = (255 * load_opacity(picture, cell_px=MASK_CELL_PX)).round().to(torch.uint8)
        opacity = self._masks[picture].to(like) / 255  # [1, H / 8, W / 8]
        return functional.pixel_unshuffle(1 - opacity, opacity.shape[1] // height)
