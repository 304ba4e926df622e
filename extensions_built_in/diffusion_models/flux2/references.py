"""Reference images in the sequence of the FLUX.2 transformer: behind the noisy image, each at a time of its own.

Source: Black Forest Labs' FLUX.2 sampling code and diffusers' Flux2Pipeline, whose helpers make the position ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import Flux2Pipeline
from torch import Tensor


def append_references(tokens: Tensor, image_ids: Tensor, references: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The image part of the sequence with references: noisy image, reference 1, reference 2, ...

    Args:
        tokens: of the noisy image, [B, S, C].
        image_ids: their positions (t, h, w, l), [1, S, 4], t = 0.
        references: clean latents, each [B, C, h_i, w_i]. All samples of a batch share their sizes, because one list of
            positions stands for the whole batch.

    Returns:
        tokens [B, S + sum of h_i * w_i, C] and their positions, with t = 10, 20, ... for the references.
    """
    if not references:
        return tokens, image_ids
    packed, reference_ids = pack_references(references, like=tokens)
    return torch.cat([tokens, packed], dim=1), torch.cat([image_ids, reference_ids.to(image_ids)], dim=1)


def pack_references(references: Sequence[Tensor], *, like: Tensor) -> tuple[Tensor, Tensor]:
    """References alone as a sequence.

    Args:
        references: as in `append_references`.
        like: has the dtype and the device of the result.

    Returns:
        tokens [B, sum of h_i * w_i, C] and their positions, with t = 10, 20, ...
    """
    packed = [Flux2Pipeline._pack_latents(latents).to(like) for latents in references]  # each [B, h_i * w_i, C]
    reference_ids = Flux2Pipeline._prepare_image_ids([latents[:1] for latents in references])  # [1, sum, 4]
    return torch.cat(packed, dim=1), reference_ids
