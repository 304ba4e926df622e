"""Where adapters add to the FLUX.2 transformer."""

from __future__ import annotations

from typing import Any

import torch

from toolkit.models.sites import AttentionSite, Ends, Positions, site_of


def attention_sites(transformer: Any) -> list[AttentionSite]:
    """The attention layers of all blocks: the double blocks first, whose image stream has its own, then the single."""
    blocks, singles = transformer.transformer_blocks, transformer.single_transformer_blocks
    double = [site_of(block.attn, block.attn.to_out[0], is_double=True) for block in blocks]
    # The output layer of a single block also takes the MLP's hidden state, after the attention's output.
    single = [site_of(block.attn, block.attn.to_out, is_double=False) for block in singles]
    return double + single


def ends(transformer: Any) -> Ends:
    """The first and the last layer, and the vector that all modulations are computed from."""
    return Ends(
        image_embedder=transformer.x_embedder,
        time_embedder=transformer.time_guidance_embed,
        output=transformer.proj_out,
        positions=Positions(transformer.pos_embed, reference_time=10),
        image_embedder_name="x_embedder",
        output_name="proj_out",
        prompt_width=transformer.config.joint_attention_dim,
        append_rows=lambda embeds, rows: torch.cat([embeds, rows], dim=1),
    )
