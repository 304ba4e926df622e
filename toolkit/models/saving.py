"""Files with the whole transformer, in the released layout or in that of diffusers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import whole_folder
from toolkit.models.base_model import BaseModel, StateDict
from toolkit.parallel.deferred import later, value_of
from toolkit.weights.tensor_index import index_tensors
from toolkit.weights.whole_files import write_whole


def save_transformer(
    model: BaseModel,
    base: Path,
    *,
    save_format: str,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    weights: StateDict | None = None,
) -> tuple[Path, ...]:
    """Write the loaded transformer; weights are computed, joined and cast one by one.

    Args:
        model: the model.
        base: path without extension.
        save_format: `safetensors` for a single file like the released one; `diffusers` for a folder for diffusers'
            `subfolder="transformer"`.
        dtype: number format of the file.
        metadata: the header's free-form metadata.
        weights: what to write in place of the transformer's own weights, under the names of the library; the written
            file is then read back and compared; if the weights are spread over ranks, only for values that are not
            finite.

    Returns:
        The files, the main one first.

    Raises:
        UserError: the file that was written has other values.
    """
    layout = model.layout

    def check_of(state: StateDict) -> Callable[[Path], None] | None:
        if weights is None:
            return None
        return _verifier(state) if layout.is_whole else _must_be_finite

    if save_format == "diffusers":
        state = _cast(layout.deferred(model.transformer.state_dict()) if weights is None else weights, dtype)
        with whole_folder(base) if layout.is_first else nullcontext(base) as temporary:
            folder = temporary / "transformer"
            path = folder / "diffusion_pytorch_model.safetensors"
            write_whole(path, state, metadata, layout, check=check_of(state))
            if layout.is_first:
                model.transformer.save_config(folder)
        return tuple(sorted(path for path in base.rglob("*") if path.is_file()))
    path = base.with_name(f"{base.name}.safetensors")
    state = _cast(model.model_state_to_save() if weights is None else model.name_as_released(weights), dtype)
    write_whole(path, state, metadata, layout, check=check_of(state))
    return (path,)


def _cast(state: StateDict, dtype: torch.dtype) -> StateDict:
    return {name: later(tensor).to(dtype) for name, tensor in state.items()}


def _must_be_finite(path: Path) -> None:
    index = index_tensors([path])
    for name in index.entries:
        if not torch.isfinite(index.read(name)).all():
            raise UserError(f"not saved: {name} is not finite")


def _verifier(state: Mapping[str, Tensor]) -> Callable[[Path], None]:
    """A function that computes all weights again, and compares a file with them."""

    def check(path: Path) -> None:
        index = index_tensors([path])
        for name, tensor in state.items():
            wanted = value_of(tensor).cpu()
            step = 2 * torch.finfo(wanted.dtype).eps
            # Written so that NaN fails.
            if not torch.isfinite(wanted).all() or not torch.allclose(index.read(name), wanted, rtol=step, atol=1e-12):
                raise UserError(f"not saved: {name} is not finite, or the file has other values than the model")

    return check
