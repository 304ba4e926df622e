"""LoRA: small trained updates on top of a frozen model."""
