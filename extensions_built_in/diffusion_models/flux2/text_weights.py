"""The part of a text encoder that FLUX.2 reads, streamed from its files: no later layer, head or vision tower.

Hidden state k of a language model is what its first k layers make of the prompt, so the layers after the last one used
need not exist. The last hidden state of a model is taken after its final norm, and the one wanted here before it:
hence the norm is left out too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, MistralModel, Qwen3Model

from extensions_built_in.diffusion_models.flux2.loading import Recipe
from toolkit.errors import UserError
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import check_fit, converted_shapes
from toolkit.weights.tensor_index import index_tensors

LANGUAGE_MODELS: Mapping[str, Any] = {"qwen3": Qwen3Model, "mistral": MistralModel}
# What stands before the language model's names in files of: the bare model, a causal model, transformers' Mistral 3
# since 4.52 and before.
_NAME = re.compile(
    r"(?:|model\.|model\.language_model\.|language_model\.model\.)(?P<name>(?:embed_tokens|layers\.(?P<layer>\d+))\..+)"
)


def text_recipe(folder: Path, files: Sequence[Path], kind: str, *, num_layers: int, hidden_size: int | None) -> Recipe:
    """How to load the first layers of a language model.

    Its last hidden state is the output of layer `num_layers`, exactly as the whole model's `hidden_states[num_layers]`.

    Args:
        folder: holds `config.json` of a language model.
        files: its safetensors files, with or without head and vision tower; what is not needed is not read.
        kind: key of `LANGUAGE_MODELS`.
        num_layers: how many layers are needed.
        hidden_size: width that the transformer expects; None if that is not known here.

    Raises:
        UserError: the files are of another kind of model or another size of it, damaged or incomplete.
    """
    config = _read_config(folder, kind, num_layers=num_layers, hidden_size=hidden_size)
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
    with torch.device("meta"):
        model = LANGUAGE_MODELS[kind](config).eval().requires_grad_(False)
    model.norm = nn.Identity()
    model.rotary_emb = type(model.rotary_emb)(config=config)  # its buffers are computed, not stored
    index = index_tensors(files)
    weights = PlainWeights(index.without({name for name in index.entries if not _is_needed(name, num_layers)}))
    check_fit(model, converted_shapes(weights, _bare_name), place=folder, kind="text encoder in its config.json")
    return Recipe(model, weights, _bare_name)


def _read_config(folder: Path, kind: str, *, num_layers: int, hidden_size: int | None) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no readable config.json of a text encoder ({error}).") from error
    config = config.get_text_config()
    if config.model_type != kind:
        raise UserError(
            f"{folder}: a text encoder of kind `{config.model_type}`; this model was trained with `{kind}`. "
            "Check model.te_name_or_path and model.arch."
        )
    if config.num_hidden_layers < num_layers:
        raise UserError(
            f"{folder}: a text encoder of {config.num_hidden_layers} layers; this model reads layer {num_layers}. "
            "Check model.te_name_or_path and model.arch."
        )
    if hidden_size not in (None, config.hidden_size):
        raise UserError(
            f"{folder}: a text encoder of width {config.hidden_size}; this model reads width {hidden_size}: the "
            "encoder is another size of the right kind. Check model.te_name_or_path and model.arch."
        )
    return config


def _is_needed(name: str, num_layers: int) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and (match["layer"] is None or int(match["layer"]) < num_layers)


def _bare_name(name: str, tensor: Tensor) -> dict[str, Tensor]:
    match = _NAME.fullmatch(name)
    assert match is not None, "only needed tensors are left"
    return {match["name"]: tensor}
