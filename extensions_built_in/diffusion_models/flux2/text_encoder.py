"""Loads only the part of a text encoder that FLUX.2 uses: no later layers, no head and no vision tower.

Hidden state k of a language model is the output of its first k layers, so layers after the last one used are left out.
A model's last hidden state is taken after its final norm, but the one needed here comes before it, so the norm is left
out, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe, empty_module
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import Shapes, check_fit, converted_shapes, unchanged
from toolkit.weights.tensor_index import TensorIndex, index_tensors
from toolkit.weights.text_folder import read_config

LANGUAGE_MODELS: Mapping[str, str] = {"qwen3": "Qwen3", "mistral": "Mistral"}  # how their classes are called
# Prefixes of the language model's names in files of the bare model, of a causal model, and of transformers' Mistral 3
# since and before version 4.52.
_NAME = re.compile(
    r"(?:|model\.|model\.language_model\.|language_model\.model\.)(?P<name>(?:embed_tokens|layers\.(?P<layer>\d+))\..+)"
)
# Settings of the released encoders that are not visible in their tensors. Sources: config.json of Qwen/Qwen3-4B and -8B
# and of mistralai/Mistral-Small-3.2-24B-Instruct-2506.
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
    """The recipe for the first layers of a text encoder.

    Its last hidden state is the output of the last of these layers, exactly as in the whole model.

    Args:
        files: the text encoder's files: a folder with `config.json`, or a single file; head and vision tower are
            ignored.
        kind: type of the language model, a key of `LANGUAGE_MODELS`.
        num_layers: number of layers to load.
        hidden_size: width that the transformer expects; None if it is not known.

    Raises:
        UserError: the files are damaged or incomplete, or belong to a model of another type or size.
    """
    weights = PlainWeights(used_tensors(index_tensors(files.weights), num_layers))
    shapes = converted_shapes(weights, unchanged)
    config = text_config(files, shapes, kind, num_layers=num_layers, hidden_size=hidden_size)
    module = empty_module(_class(kind, "Model"), config, files, what="text encoder", source="configuration")
    module.norm = nn.Identity()
    module.rotary_emb = type(module.rotary_emb)(config=config)  # its buffers are computed, not stored
    check_fit(module, shapes, path=files.path, kind=f"text encoder ({kind})")
    return Recipe(module, weights, unchanged)


def used_tensors(index: TensorIndex, num_layers: int) -> TensorIndex:
    """The tensors of the embedding and of the first `num_layers` layers, by their names in the language model."""
    used = {}
    for key, entry in index.entries.items():
        match = _NAME.fullmatch(key)
        if match and (match["layer"] is None or int(match["layer"]) < num_layers):
            used[match["name"]] = entry
    return TensorIndex(used)


def text_config(files: ComponentFiles, shapes: Shapes, kind: str, *, num_layers: int, hidden_size: int | None) -> Any:
    """Configuration of a language model reduced to its first `num_layers` layers.

    Args:
        files: the text encoder's files: a folder with `config.json`, or a single file without one.
        shapes: shapes of the language model's tensors by name; only used if there is no `config.json`.
        kind: type of the language model: `qwen3` or `mistral`.
        num_layers: number of layers to load.
        hidden_size: width that the transformer expects; None if it is not known.

    Raises:
        UserError: the model has another type or size, or is not a text encoder.
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
            f"{path}: contains no text encoder of FLUX.2: {error.args[0]} is missing. Give a file with the encoder "
            "that the model was trained with, or a folder that also has its config.json."
        ) from error
    return _class(kind, "Config")(**{**_CONSTANTS[kind], **sizes, "head_dim": head_dim})


def _class(kind: str, what: Literal["Model", "Config"]) -> Any:
    import transformers  # takes a second, and is not needed while all texts are cached

    return getattr(transformers, f"{LANGUAGE_MODELS[kind]}{what}")


def _check(config: Any, path: Path, kind: str, *, num_layers: int, hidden_size: int | None) -> None:
    advice = "Check model.te_name_or_path and model.arch."
    layers = config.num_hidden_layers
    if config.model_type != kind:
        raise UserError(
            f"{path}: a text encoder of type `{config.model_type}`, but this model was trained with `{kind}`. {advice}"
        )
    if layers < num_layers:
        raise UserError(f"{path}: a text encoder of {layers} layers, but this model reads layer {num_layers}. {advice}")
    if hidden_size not in (None, config.hidden_size):
        raise UserError(
            f"{path}: a text encoder of width {config.hidden_size}, but this model reads width {hidden_size}: the "
            f"encoder has the right type but the wrong size. {advice}"
        )
