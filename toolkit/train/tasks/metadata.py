"""What the header of a saved file says about the job that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.config import NetworkConfig
from toolkit.version import VERSION

SOFTWARE = "flux2-trainer"


@dataclass(frozen=True)
class BaseWeights:
    """The base model of a training: its hub id or folder name, and the fingerprint of its transformer."""

    name: str
    fingerprint: str


def file_metadata(
    *,
    job_name: str,
    step: int,
    epoch: int,
    base_model: str,
    trigger_word: str | None,
    meta: Mapping[str, Any],
    base_weights: BaseWeights | None = None,
    network: NetworkConfig | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The header of a saved file; all values are text, as safetensors requires.

    `lora_adapter_metadata` must never be among the keys: diffusers would rebuild the adapter from it, with ranks that
    the file does not have. `ss_network_alpha` equals the rank, since the scale is already folded into the file's
    weights; the alpha used in training is in `network`.

    Args:
        job_name: name of the job.
        step: number of updates done.
        epoch: number of passes over the dataset done.
        base_model: arch of the model.
        trigger_word: the job's trigger word, if it has one.
        meta: entries that the user adds in the job's `meta` section.
        base_weights: the weights that the training started from.
        network: settings of the LoRA; None for a full fine-tune.
        settings: settings of the training, as plain JSON.
    """
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}
    metadata |= {
        "format": "pt",
        "training_info": json.dumps({"step": step, "epoch": epoch}),
        "ss_output_name": job_name,
        "ss_base_model_version": base_model,
        "software": json.dumps({"name": SOFTWARE, "version": VERSION}),
    }
    metadata |= {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": base_model if network is None else f"{base_model}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": job_name,
        "modelspec.prediction_type": "velocity",
    }
    if base_weights is not None:
        metadata["base_model"] = json.dumps(asdict(base_weights))
    if network is not None:
        facts = {
            "type": network.type,
            "rank": network.linear,
            "alpha": network.linear_alpha,
            "alpha_is_folded_in": True,
        }
        metadata |= {
            "network": json.dumps(facts),
            "ss_network_dim": str(network.linear),
            "ss_network_alpha": str(network.linear),
        }
    if settings is not None:
        metadata["training_settings"] = json.dumps(settings)
    if trigger_word:
        metadata["ss_tag_frequency"] = json.dumps({"1": {trigger_word: 1}})
        metadata["modelspec.trigger_phrase"] = trigger_word
    return metadata


def published_name(name_or_path: str) -> str:
    """The part of `model.name_or_path` that may be published: a whole hub id, or the last part of a local path."""
    return Path(name_or_path).expanduser().resolve().name if Path(name_or_path).exists() else name_or_path
