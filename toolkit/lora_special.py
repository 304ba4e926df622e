"""The LoRA network by the module name that extension authors know."""

from toolkit.networks.lora import LoRASpecialNetwork

__all__ = ["LoRASpecialNetwork"]
