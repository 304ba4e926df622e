"""What must be fetched before a run, and which licence must be accepted first; from the card and the hub's cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.cards import ModelCard
from toolkit.config.paths import HUB_ID

_BYTES_PER_WEIGHT = 2  # the hub has them in bf16


@dataclass(frozen=True)
class Download:
    """What must be fetched.

    Attributes:
        num_bytes: 0 if nothing; None if unknown.
        licence: of the weights.
        gate: what to do first; None if nothing.
    """

    num_bytes: int | None
    licence: str
    gate: str | None


def download_of(card: ModelCard, source: str, environment: Mapping[str, str]) -> Download:
    """What a run of a model must fetch.

    Args:
        card: of the model.
        source: where its weights are: a hub id, a file or a folder.
        environment: variables that say where the hub's cache and its token are.
    """
    if Path(source).expanduser().exists() or not HUB_ID.fullmatch(source) or _is_cached(source, environment):
        return Download(0, card.license, None)
    gate = None
    if card.is_gated and not has_hub_token(environment):
        gate = (
            f"{source} requires you to accept its licence: do so on its Hugging Face page, then add a token for "
            "that account in Settings."
        )
    return Download(_size(card), card.license, gate)


def has_hub_token(environment: Mapping[str, str]) -> bool:
    """Whether a token for the hub is at hand."""
    if environment.get("HF_TOKEN"):
        return True
    return (_home(environment) / "token").is_file()


def _size(card: ModelCard) -> int | None:
    if card.size is None:
        return card.num_parameters * _BYTES_PER_WEIGHT or None
    encoders = sum(
        encoder.num_layers * encoder.layer_parameters + encoder.embedding_parameters
        for encoder in card.size.text_encoders
    )
    return (card.size.transformer.parameters + encoders + card.size.vae.parameters) * _BYTES_PER_WEIGHT


def _is_cached(source: str, environment: Mapping[str, str]) -> bool:
    folder = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    root = Path(folder).expanduser() if folder else _home(environment) / "hub"
    name = "--".join(["models", *source.split("/")[:2]])
    try:
        return any((root / name / "snapshots").glob("*/*"))
    except OSError:
        return False


def _home(environment: Mapping[str, str]) -> Path:
    home = environment.get("HF_HOME") or str(Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(home).expanduser()
