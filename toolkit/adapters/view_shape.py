"""The size of what a vision encoder makes of one image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ViewShape:
    """The features of one image: [num_tokens, width].

    Attributes:
        num_tokens: number of patches or tokens; 1 for one embedding of the whole image.
        width: size of each.
        encoder: fingerprint of the encoder and its layer; files of adapters name it.
    """

    num_tokens: int
    width: int
    encoder: str = ""
