"""The part of a text encoder that FLUX.2 reads, streamed from its files: no later layer, head or vision tower.

Hidden state k of a language model is what its first k layers make of the prompt, so the layers after the last one used
need not exist. The last hidden state of a model is taken after its final norm, and the one wanted here before it:
hence the norm is left out too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, MistralModel, Qwen3Model

from toolkit.errors import UserError
from toolkit.memory.placement import bits_of
from toolkit.memory.quantize import quantize_linears

LANGUAGE_MODELS: Mapping[str, Any] = {"qwen3": Qwen3Model, "mistral": MistralModel}
# What stands before the language model's names in files of: the bare model, a causal model, transformers' Mistral 3
# since 4.52 and before.
_NAME = re.compile(
    r"(?:|model\.|model\.language_model\.|language_model\.model\.)(?P<name>(?:embed_tokens|layers\.(?P<layer>\d+))\..+)"
)


def load_text_encoder(
    folder: Path,
    files: Sequence[Path],
    kind: str,
    *,
    num_layers: int,
    hidden_size: int | None,
    dtype: torch.dtype,
    device: torch.device,
    qtype: str | None = None,
    place: Callable[..., Callable[[str], torch.device]] | None = None,
) -> nn.Module:
    """The first layers of a language model, frozen, in eval mode, on `device`.

    Its last hidden state is the output of layer `num_layers`, exactly as the whole model's `hidden_states[num_layers]`.
    Tensors are read one by one; with `qtype`, a layer is quantized before the next one is read.

    Args:
        folder: holds `config.json` of a language model.
        files: its safetensors files, with or without head and vision tower; what is not needed is not read.
        kind: key of `LANGUAGE_MODELS`.
        num_layers: how many layers are needed.
        hidden_size: width that the transformer expects; None if that is not known here.
        dtype: of the weights.
        device: where they go.
        qtype: format of the layers' linear weights, see `toolkit.memory.quantize`; None leaves them in `dtype`.
        place: told the model without its weights and `bits_per_weight`, gives a device for each tensor by its name.

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
    model.rotary_emb = type(model.rotary_emb)(config=config).to(device)  # its buffers are computed, not stored
    device_of = place(model, bits_per_weight=bits_of(qtype, dtype)) if place else lambda name: device
    _fill(model, find_tensors(files, num_layers), dtype=dtype, device_of=device_of, qtype=qtype, folder=folder)
    return model


def find_tensors(files: Sequence[Path], num_layers: int) -> dict[str, tuple[Path, str]]:
    """Where each needed tensor is: name in the language model -> file, and name in that file.

    Raises:
        UserError: a file is damaged.
    """
    places: dict[str, tuple[Path, str]] = {}
    for path in files:
        for key in _keys(path):
            match = _NAME.fullmatch(key)
            if match and (match["layer"] is None or int(match["layer"]) < num_layers):
                places[match["name"]] = (path, key)
    return places


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


def _fill(
    model: nn.Module,
    places: Mapping[str, tuple[Path, str]],
    *,
    dtype: torch.dtype,
    device_of: Callable[[str], torch.device],
    qtype: str | None,
    folder: Path,
) -> None:
    wanted = {name: parameter.shape for name, parameter in model.named_parameters()}
    missing = [name for name in wanted if name not in places]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(wanted)} weights of the text encoder are missing, such as "
            f"{', '.join(missing[:3])}. Download the folder again."
        )
    for part in _parts(wanted):
        for name, tensor in _read(places, part).items():
            if tensor.shape != wanted[name]:
                raise UserError(
                    f"{places[name][0]}: {places[name][1]} has shape {tuple(tensor.shape)}, but config.json asks for "
                    f"{tuple(wanted[name])}. The two do not belong together."
                )
            owner, _, leaf = name.rpartition(".")
            value = tensor.to(device=device_of(name), dtype=dtype, copy=True)
            model.get_submodule(owner).register_parameter(leaf, nn.Parameter(value, requires_grad=False))
        if qtype is not None:
            quantize_linears(model, qtype, names=_linears(model, part))


def _parts(names: Mapping[str, Any]) -> list[list[str]]:
    """The names, a layer at a time."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return list(parts.values())


def _linears(model: nn.Module, part: list[str]) -> list[str]:
    owners = (name.rpartition(".")[0] for name in part)
    return [name for name in owners if isinstance(model.get_submodule(name), nn.Linear)]


def _read(places: Mapping[str, tuple[Path, str]], names: list[str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in sorted({places[name][0] for name in names}):
        try:
            with safe_open(path, framework="pt") as file:
                tensors |= {name: file.get_tensor(places[name][1]) for name in names if places[name][0] == path}
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: cannot be read as safetensors ({error}).") from error
    return tensors


def _keys(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as safetensors ({error}).") from error
