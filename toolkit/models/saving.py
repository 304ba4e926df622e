"""Files with the whole transformer, in the released layout or in that of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch

from toolkit.files import whole_folder
from toolkit.models.base_model import BaseModel
from toolkit.parallel.deferred import later
from toolkit.weights.whole_files import write_whole


def save_transformer(
    model: BaseModel, base: Path, *, save_format: str, dtype: torch.dtype, metadata: Mapping[str, str]
) -> tuple[Path, ...]:
    """Write the loaded transformer, cast tensor by tensor.

    Args:
        model: the model.
        base: path without extension.
        save_format: `safetensors` for a single file like the released one; `diffusers` for a folder for diffusers'
            `subfolder="transformer"`.
        dtype: number format of the file.
        metadata: the header's free-form metadata.

    Returns:
        The files, the main one first.
    """
    layout = model.layout
    if save_format == "diffusers":
        with whole_folder(base) if layout.is_first else nullcontext(base) as temporary:
            folder = temporary / "transformer"
            state = {name: tensor.to(dtype) for name, tensor in layout.deferred(model.transformer.state_dict()).items()}
            write_whole(folder / "diffusion_pytorch_model.safetensors", state, metadata, layout)
            if layout.is_first:
                model.transformer.save_config(folder)
        return tuple(sorted(path for path in base.rglob("*") if path.is_file()))
    path = base.with_name(f"{base.name}.safetensors")
    state = {name: later(tensor).to(dtype) for name, tensor in model.model_state_to_save().items()}
    write_whole(path, state, metadata, layout)
    return (path,)
