"""Jobs that write LoRA files without training."""
