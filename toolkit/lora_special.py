"""The network of a job by the module and class name that extension authors know."""

from toolkit.networks.network import Network as LoRASpecialNetwork

__all__ = ["LoRASpecialNetwork"]
