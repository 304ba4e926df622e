"""Control LoRA: the adapter, its files, and how they are written for other programs."""
