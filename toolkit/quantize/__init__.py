"""Quantized frozen linear layers: their number formats, quantizing while loading, and the cache."""
