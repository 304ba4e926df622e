"""The kinds of network that a job may train: a row each, readable without torch."""

from __future__ import annotations

from toolkit.choice import Choice

NETWORKS = {
    "lora": Choice(
        "toolkit.networks.lora:LoRASpecialNetwork", says="A product of two thin matrices beside each layer's weight."
    ),
}
