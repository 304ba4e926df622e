"""How generated things in this repository were made."""

from toolkit.runtime.threads import share_cores

share_cores()  # the tiny model runs on the CPU; before any script here imports torch
