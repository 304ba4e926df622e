"""Frozen linear layers in few bits: number formats, filling while streaming, and the cache."""
