"""CLIP and T5 as FLUX.1 reads them: how they are streamed from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, T5EncoderModel

from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe, empty_module, weights_of
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import Convert, check_fit, converted_shapes
from toolkit.weights.tensor_index import index_tensors
from toolkit.weights.text_folder import read_config


def clip_recipe(files: ComponentFiles, *, device: torch.device) -> Recipe:
    """How to load CLIP's text tower.

    Raises:
        UserError: the files are of another model, damaged or not whole.
    """
    recipe = _recipe(CLIPTextModel, "clip_text_model", files, _of_clip)
    embeddings: Any = recipe.module.embeddings
    count = embeddings.position_embedding.num_embeddings
    embeddings.position_ids = torch.arange(count, device=device).unsqueeze(0)  # computed, not stored
    return recipe


def t5_recipe(files: ComponentFiles) -> Recipe:
    """How to load T5's encoder.

    Raises:
        UserError: the files are of another model, damaged or not whole.
    """
    recipe = _recipe(T5EncoderModel, "t5", files, _of_t5)
    model: Any = recipe.module
    model.encoder.embed_tokens = model.shared
    return recipe


def folder_of(files: ComponentFiles) -> Path:
    """The folder of a text encoder or tokenizer.

    Raises:
        UserError: it is a single file, which has no configuration beside it.
    """
    if files.folder is None:
        raise UserError(
            f"{files.path}: is a single file. Text encoders are read from a folder: set model.te_name_or_path to one "
            "with text_encoder, text_encoder_2, tokenizer and tokenizer_2 in it, such as that of FLUX.1 [schnell]."
        )
    return files.folder


def _recipe(kind: Any, model_type: str, files: ComponentFiles, convert: Convert) -> Recipe:
    config = _config(files, model_type)
    weights = PlainWeights(index_tensors(weights_of(files)))
    model = empty_module(kind, config, files, what="text encoder")
    check_fit(model, converted_shapes(weights, convert), path=files.path, kind=f"{model_type} text encoder")
    return Recipe(model, weights, convert)


def _config(files: ComponentFiles, model_type: str) -> Any:
    folder = folder_of(files)
    config = read_config(folder, lambda whole: whole.text_config if whole.model_type == "clip" else whole)
    if config.model_type != model_type:
        raise UserError(
            f"{folder}: a text encoder of kind `{config.model_type}`; FLUX.1 was trained with `{model_type}` "
            "there. Check model.te_name_or_path and model.arch."
        )
    return config


def _of_clip(name: str, tensor: Tensor) -> dict[str, Tensor]:
    name = name.removeprefix("text_model.")
    return {} if name in ("embeddings.position_ids", "text_projection.weight") else {name: tensor}


def _of_t5(name: str, tensor: Tensor) -> dict[str, Tensor]:
    embedding = ("shared.weight", "encoder.embed_tokens.weight")  # one and the same; files have the first or both
    if name == embedding[1]:
        return {}
    return dict.fromkeys(embedding, tensor) if name == embedding[0] else {name: tensor}
