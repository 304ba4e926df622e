"""The part of a text encoder that FLUX.2 reads, streamed from its files: no later layer, head or vision tower.

Hidden state k of a language model is what its first k layers make of the prompt, so the layers after the last one used
need not exist. The last hidden state of a model is taken after its final norm, and the one wanted here before it:
hence the norm is left out too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import MistralConfig, MistralModel, Qwen3Config, Qwen3Model

from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe, empty_module
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import Shapes, check_fit, converted_shapes, unchanged
from toolkit.weights.tensor_index import TensorIndex, index_tensors
from toolkit.weights.text_folder import read_config

LANGUAGE_MODELS: Mapping[str, Any] = {"qwen3": Qwen3Model, "mistral": MistralModel}
# What stands before the language model's names in files of: the bare model, a causal model, transformers' Mistral 3
# since 4.52 and before.
_NAME = re.compile(
    r"(?:|model\.|model\.language_model\.|language_model\.model\.)(?P<name>(?:embed_tokens|layers\.(?P<layer>\d+))\..+)"
)
_KINDS: Mapping[str, Any] = {"qwen3": Qwen3Config, "mistral": MistralConfig}
# What the tensors of the released encoders do not tell. Sources: config.json of Qwen/Qwen3-4B and -8B and of
# mistralai/Mistral-Small-3.2-24B-Instruct-2506.
_CONSTANTS: Mapping[str, Mapping[str, Any]] = {
    "qwen3": {"head_dim": 128, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 40960},
    "mistral": {
        "head_dim": 128,
        "rope_theta": 1e9,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072,
        "sliding_window": None,
    },
}
_ONLY_QWEN3 = "layers.0.self_attn.q_norm.weight"


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


def text_config(files: ComponentFiles, shapes: Shapes, kind: str, *, num_layers: int, hidden_size: int | None) -> Any:
    """Configuration of a language model cut to its first `num_layers` layers.

    Args:
        files: a folder with `config.json`, or a single file without.
        shapes: of the language model's tensors by name; read only where there is no `config.json`.
        kind: `qwen3` or `mistral`.
        num_layers: how many layers are needed.
        hidden_size: width that the transformer expects; None if that is not known here.

    Raises:
        UserError: another kind of model or another size of it, or no text encoder at all.
    """
    if files.folder is None:
        config = _derived(shapes, files.path)
    else:
        config = read_config(files.folder, lambda whole: whole.get_text_config())
    _check(config, files.path, kind, num_layers=num_layers, hidden_size=hidden_size)
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
    return config


def _derived(shapes: Shapes, path: Path) -> Any:
    kind = "qwen3" if _ONLY_QWEN3 in shapes else "mistral"
    (head_dim,) = shapes.get(_ONLY_QWEN3, (_CONSTANTS[kind]["head_dim"],))
    try:
        vocab_size, hidden = shapes["embed_tokens.weight"]
        sizes = {
            "vocab_size": vocab_size,
            "hidden_size": hidden,
            "intermediate_size": shapes["layers.0.mlp.gate_proj.weight"][0],
            "num_attention_heads": shapes["layers.0.self_attn.q_proj.weight"][0] // head_dim,
            "num_key_value_heads": shapes["layers.0.self_attn.k_proj.weight"][0] // head_dim,
            "num_hidden_layers": len({name.split(".")[1] for name in shapes if name.startswith("layers.")}),
        }
    except KeyError as error:
        raise UserError(
            f"{path}: holds no text encoder of FLUX.2: {error.args[0]} is missing. Name a file of the encoder that "
            "the model was trained with, or a folder with its config.json."
        ) from error
    return _KINDS[kind](**{**_CONSTANTS[kind], **sizes, "head_dim": head_dim})


def _check(config: Any, path: Path, kind: str, *, num_layers: int, hidden_size: int | None) -> None:
    advice = "Check model.te_name_or_path and model.arch."
    layers = config.num_hidden_layers
    if config.model_type != kind:
        raise UserError(
            f"{path}: a text encoder of kind `{config.model_type}`; this model was trained with `{kind}`. {advice}"
        )
    if layers < num_layers:
        raise UserError(f"{path}: a text encoder of {layers} layers; this model reads layer {num_layers}. {advice}")
    if hidden_size not in (None, config.hidden_size):
        raise UserError(
            f"{path}: a text encoder of width {config.hidden_size}; this model reads width {hidden_size}: the "
            f"encoder is another size of the right kind. {advice}"
        )
