"""FLUX.2's blocks with a backward pass written by hand, which keeps only what a frozen block with a LoRA needs."""
