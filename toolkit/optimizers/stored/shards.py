"""Reads the part of an optimizer's state that belongs to the rows of this process, however many have written it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.optimizers.row import BLOCK
from toolkit.optimizers.stored.blocks import ROOT, SCALE, decode, encode
from toolkit.optimizers.stored.state import DOCUMENT, for_any_rows
from toolkit.parallel.weight_layout import Piece, rows_of
from toolkit.weights.row_files import RowFiles


def read_state(files: RowFiles, pieces: Sequence[Piece], count: int) -> dict[str, Tensor]:
    """The state, as tensors named `<index of the weight>.<name>`, see `optimizer_tensors`.

    Args:
        files: the state of each of the processes that have written it.
        pieces: what this process holds of each trained weight.
        count: number of processes that have written it.
    """
    found: dict[str, Tensor] = {}
    keys = set(files)
    for key in keys:
        if key == DOCUMENT:
            found[key] = for_any_rows(files.read_piece(key, 0))
            continue
        index = key.partition(".")[0]
        shapes = files.shapes(key)
        piece = pieces[int(index)] if index.isdecimal() and int(index) < len(pieces) else None
        if not shapes[0] or piece is None:  # a number; or of other weights, which the optimizer will refuse
            found[key] = files.read_piece(key, 0).clone()
        elif f"{key}{SCALE}" in keys:
            found[key], found[f"{key}{SCALE}"] = _blocks(files, key, piece, count)
        elif key.removesuffix(SCALE) not in keys - {key}:
            is_fitting = files.num_rows(key) == piece.shape[0]
            found[key] = files.read(key, piece.rows if is_fitting else slice(0, files.num_rows(key)))
    return found


def _blocks(files: RowFiles, key: str, piece: Piece, count: int) -> tuple[Tensor, Tensor]:
    """Codes and scales of an 8-bit state. If blocks cannot be kept, because rows end within one, they are made again.

    Each process numbers the blocks from the first of its own values.
    """
    width = math.prod(piece.shape[1:])
    owned = [rows_of(piece.shape[0], position, count) for position in range(count)]
    wanted = slice(piece.rows.start * width, piece.rows.stop * width)
    if all(rows.start * width % BLOCK == 0 for rows in owned) and wanted.start % BLOCK == 0:
        blocks = slice(wanted.start // BLOCK, -(-wanted.stop // BLOCK))
        return files.read(key, blocks), files.read(f"{key}{SCALE}", blocks)
    values, codes = [], files.read_piece(key, 0).dtype
    for file, rows in enumerate(owned):
        low, high = max(wanted.start, rows.start * width), min(wanted.stop, rows.stop * width)
        if low < high:
            shape = torch.Size([(rows.stop - rows.start) * width])
            decoded = decode(files.read_piece(key, file), files.read_piece(f"{key}{SCALE}", file), shape)
            values.append(decoded[low - rows.start * width : high - rows.start * width])
    return encode(torch.cat(values) if values else torch.zeros(0), keep_positive=key.endswith(ROOT), codes=codes)
