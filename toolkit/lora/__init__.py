"""LoRA: small trained updates beside a frozen model."""
