"""Checks the LoRA files of a drawing job: each must be one of the job's model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from extensions_built_in.generator.own_loras import verified_weights
from toolkit.cards import ModelCard
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.columns import columns_of
from toolkit.errors import Mistakes


def check_loras(drawing: GenerateProcessConfig, card: ModelCard, mistakes: Mistakes) -> int:
    """The most weights that the LoRAs of a column have together. Loads torch for files of other programs.

    Args:
        drawing: the settings of the job.
        card: the card of its model.
        mistakes: gets what is wrong with the files.
    """
    columns = columns_of(drawing)
    files = list(dict.fromkeys(path for column in columns for path, _ in column.loras))
    known = {path: verified_weights(path, arch=card.arch) for path in files}
    counts = {path: count or 0 for path, count in known.items()}
    unknown = [path for path, count in known.items() if count is None]
    if unknown:
        counts |= _counted(drawing, card, unknown, mistakes)
    return max((sum(counts[path] for path, _ in column.loras) for column in columns), default=0)


def _counted(
    drawing: GenerateProcessConfig, card: ModelCard, files: Sequence[Path], mistakes: Mistakes
) -> dict[Path, int]:
    """The weights of each file, read for a model; 0 after a mistake."""
    import torch

    from toolkit.draw.loras import num_weights, read_for
    from toolkit.dtypes import DTYPES, torch_dtype
    from toolkit.models.options import ModelOptions
    from toolkit.util.get_model import get_model_class

    counts, options = dict.fromkeys(files, 0), ModelOptions(card=card)
    dtype = torch_dtype(drawing.dtype)
    model = get_model_class(drawing.model)(drawing.model, device=torch.device("cpu"), dtype=dtype, options=options)
    for path in files:
        with mistakes.gathered():
            counts[path] = num_weights(model, read_for(model, path), width=DTYPES[drawing.dtype].num_bytes)
    return counts
