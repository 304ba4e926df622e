"""The part of a text encoder that FLUX.2 reads, streamed from its files: no later layer, head or vision tower.

Hidden state k of a language model is what its first k layers make of the prompt, so the layers after the last one used
need not exist. The last hidden state of a model is taken after its final norm, and the one wanted here before it:
hence the norm is left out too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import MistralModel, Qwen3Model

from extensions_built_in.diffusion_models.flux2.text_config import text_config
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe, empty_module
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import check_fit, converted_shapes, unchanged
from toolkit.weights.tensor_index import TensorIndex, index_tensors

LANGUAGE_MODELS: Mapping[str, Any] = {"qwen3": Qwen3Model, "mistral": MistralModel}
# What stands before the language model's names in files of: the bare model, a causal model, transformers' Mistral 3
# since 4.52 and before.
_NAME = re.compile(
    r"(?:|model\.|model\.language_model\.|language_model\.model\.)(?P<name>(?:embed_tokens|layers\.(?P<layer>\d+))\..+)"
)


def text_recipe(files: ComponentFiles, kind: str, *, num_layers: int, hidden_size: int | None) -> Recipe:
    """How to load the first layers of a text encoder.

    Its last hidden state is the output of the last of these layers, exactly as the whole model's.

    Args:
        files: a folder with `config.json`, or a single file; with or without head and vision tower.
        kind: key of `LANGUAGE_MODELS`.
        num_layers: how many layers are needed.
        hidden_size: width that the transformer expects; None if that is not known here.

    Raises:
        UserError: the files are of another kind of model or another size of it, damaged or incomplete.
    """
    weights = PlainWeights(used_tensors(index_tensors(files.weights), num_layers))
    shapes = converted_shapes(weights, unchanged)
    config = text_config(files, shapes, kind, num_layers=num_layers, hidden_size=hidden_size)
    module = empty_module(LANGUAGE_MODELS[kind], config, files, what="text encoder", source="configuration")
    module.norm = nn.Identity()
    module.rotary_emb = type(module.rotary_emb)(config=config)  # its buffers are computed, not stored
    check_fit(module, shapes, path=files.path, kind=f"text encoder ({kind})")
    return Recipe(module, weights, unchanged)


def used_tensors(index: TensorIndex, num_layers: int) -> TensorIndex:
    """The tensors of the embedding and the first `num_layers` layers, by their names in the language model."""
    used = {}
    for key, entry in index.entries.items():
        match = _NAME.fullmatch(key)
        if match and (match["layer"] is None or int(match["layer"]) < num_layers):
            used[match["name"]] = entry
    return TensorIndex(used)
