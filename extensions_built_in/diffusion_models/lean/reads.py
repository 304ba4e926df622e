"""Which tokens of the last block's output are read, as who asks for a prediction knows."""

from __future__ import annotations

from toolkit.memory.recompute import BlockValue

READ: BlockValue[slice | None] = BlockValue(None)
"""Tokens of the whole sequence; None for all. Also set while backward recomputes a block."""
