"""Recipes for FLUX.1's text encoders, CLIP and T5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe, empty_module, weights_of
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import Convert, check_fit, converted_shapes
from toolkit.weights.tensor_index import index_tensors
from toolkit.weights.text_folder import read_config


def clip_recipe(files: ComponentFiles, *, device: torch.device) -> Recipe:
    """The recipe for CLIP's text encoder.

    Raises:
        UserError: the files are damaged or incomplete, or belong to another model.
    """
    recipe = _recipe("CLIPTextModel", "clip_text_model", files, _of_clip)
    embeddings: Any = recipe.module.embeddings
    count = embeddings.position_embedding.num_embeddings
    embeddings.position_ids = torch.arange(count, device=device).unsqueeze(0)  # computed, not stored
    return recipe


def t5_recipe(files: ComponentFiles) -> Recipe:
    """The recipe for T5's encoder.

    Raises:
        UserError: the files are damaged or incomplete, or belong to another model.
    """
    recipe = _recipe("T5EncoderModel", "t5", files, _of_t5)
    model: Any = recipe.module
    model.encoder.embed_tokens = model.shared
    return recipe


def is_t5(module: nn.Module) -> bool:
    """Whether a module is T5's encoder."""
    return getattr(getattr(module, "config", None), "model_type", None) == "t5"


def folder_of(files: ComponentFiles) -> Path:
    """The folder of a text encoder or tokenizer.

    Raises:
        UserError: the source is a single file, which has no configuration.
    """
    if files.folder is None:
        raise UserError(
            f"{files.path}: a single file, but text encoders are read from a folder. Set model.te_name_or_path to a "
            "folder with text_encoder, text_encoder_2, tokenizer and tokenizer_2, such as that of FLUX.1 [schnell]."
        )
    return files.folder


def _recipe(kind: str, model_type: str, files: ComponentFiles, convert: Convert) -> Recipe:
    import transformers  # takes a second, and is not needed while all texts are cached

    config = _config(files, model_type)
    weights = PlainWeights(index_tensors(weights_of(files)))
    model = empty_module(getattr(transformers, kind), config, files, what="text encoder")
    check_fit(model, converted_shapes(weights, convert), path=files.path, kind=f"{model_type} text encoder")
    return Recipe(model, weights, convert)


def _config(files: ComponentFiles, model_type: str) -> Any:
    folder = folder_of(files)
    config = read_config(folder, lambda whole: whole.text_config if whole.model_type == "clip" else whole)
    if config.model_type != model_type:
        raise UserError(
            f"{folder}: a text encoder of type `{config.model_type}`, but FLUX.1 was trained with `{model_type}` "
            "here. Check model.te_name_or_path and model.arch."
        )
    return config


def _of_clip(name: str, tensor: Tensor) -> dict[str, Tensor]:
    name = name.removeprefix("text_model.")
    return {} if name in ("embeddings.position_ids", "text_projection.weight") else {name: tensor}


def _of_t5(name: str, tensor: Tensor) -> dict[str, Tensor]:
    embedding = ("shared.weight", "encoder.embed_tokens.weight")  # the same weight; files have the first or both
    if name == embedding[1]:
        return {}
    return dict.fromkeys(embedding, tensor) if name == embedding[0] else {name: tensor}
