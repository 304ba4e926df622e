"""The backward pass written by hand: it keeps only what a frozen block with a LoRA needs. No model, but for models."""
