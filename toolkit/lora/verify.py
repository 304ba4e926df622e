"""Verifies a saved LoRA: the file is read back and compared with the trained weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch

from toolkit.errors import UserError
from toolkit.lora.parse import parse
from toolkit.lora.update import LayerLocation, Locate, Update, distance, norm
from toolkit.weights.tensor_files import read_metadata, read_tensors

TOLERANCE = 1e-6
# Largest relative error of rounding to a format, and the largest absolute error near zero.
WRITTEN_AS = {torch.float32: (2**-24, 0.0), torch.bfloat16: (2**-9, 0.0), torch.float16: (2**-11, 2**-25)}


def verify(
    path: Path,
    live: Mapping[str, Update],
    locate: Locate,
    *,
    dtype: torch.dtype,
    only: Collection[str] | None = None,
) -> None:
    """Compare a file with the updates that were written to it, layer by layer.

    The allowed relative error is 1e-6 plus the most that rounding A and B to `dtype` can cause: with relative rounding
    error u (bf16 2^-9, fp16 2^-11), u * (|B|_F * |A|_2 + |B|_2 * |A|_F) in the Frobenius norm.

    Args:
        path: path of the file.
        live: the trained update of every layer, fp32, by any name that `locate` knows.
        locate: finds a layer by its name, see `parse`.
        dtype: number format of the weights in the file.
        only: the keys of the file that are compared; None for all.

    Raises:
        UserError: a layer is missing from the file, is in it without having been trained, or differs.
    """
    tensors = {key: tensor for key, tensor in read_tensors(path).items() if only is None or key in only}
    read = parse(tensors, read_metadata(path), locate)
    seen: set[str] = set()
    for name, update in live.items():
        where = locate(name)
        assert isinstance(where, LayerLocation), f"the model does not know its own layer {name}"
        seen.add(where.target)
        if where.target not in read:
            raise UserError(not_saved(f"{name} is missing from the file that was written"))
        whole = read[where.target]
        found = Update(whole.a, where.rows(whole.b))
        error, allowed = distance(found, update), TOLERANCE * norm(update) + _rounding(update, dtype)
        if not error <= allowed:  # written so that NaN fails
            raise UserError(
                not_saved(
                    f"{name} differs from the trained weights by {error:.3g}, only {allowed:.3g} is allowed", dtype
                )
            )
    if extra := sorted(read.keys() - seen):
        raise UserError(not_saved(f"the file that was written also changes {extra[0]}"))


def _rounding(update: Update, dtype: torch.dtype) -> float:
    unit, step = WRITTEN_AS[dtype]
    a, b = update.a.double(), update.b.double()
    error_a = unit * float(a.norm()) + step * a.numel() ** 0.5
    error_b = unit * float(b.norm()) + step * b.numel() ** 0.5
    largest_a, largest_b = _spectral(a @ a.T), _spectral(b.T @ b)
    return error_b * largest_a + largest_b * error_a + error_a * error_b


def _spectral(gram: torch.Tensor) -> float:
    """Largest singular value of a matrix, from its Gram matrix; NaN if that contains NaN or infinity."""
    if not bool(gram.isfinite().all()):
        return float("nan")
    return max(0.0, float(torch.linalg.eigvalsh(gram)[-1])) ** 0.5


def not_saved(what: str, dtype: torch.dtype | None = None) -> str:
    """The message that a file was not saved, and why."""
    hint = " fp16 overflows above 65504: set `save.dtype: bf16`." if dtype == torch.float16 else ""
    return f"The LoRA was not saved (an earlier file of this name is untouched): {what}.{hint}"
