"""The kinds of network that a job can train: one row each, readable without torch."""

from __future__ import annotations

from toolkit.choice import Choice

NETWORKS = {
    "lora": Choice(
        "toolkit.networks.lora:LoRASpecialNetwork",
        summary="A product of two low-rank matrices, added to each layer's weight.",
    ),
}
