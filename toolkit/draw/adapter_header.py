"""What the header of an adapter's file says about the settings that it was trained with; readable without torch."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.adapters.choices import ADAPTERS
from toolkit.config import AdapterConfig
from toolkit.errors import UserError
from toolkit.weights.headers import must_match, read_metadata

KIND = "adapter_type"
_SETTINGS = {
    "adapter_layer": "clip_layer",
    "adapter_blocks": "blocks",
    "adapter_positions": "positions",
    "adapter_tokens": "num_tokens",
    "adapter_control_images": "num_control_images",
    "adapter_inpainting_input": "has_inpainting_input",
}
_TOKEN_PX = "adapter_pixels_per_token_side"
_CELLS = 2  # per side of a token


def settings_of(path: Path) -> dict[str, Any]:
    """The `adapter` section that a file was trained with, as far as its header tells; without the vision encoder.

    Raises:
        UserError: the file cannot be read, or does not say that it is an adapter.
    """
    told = read_metadata(path)
    kind = told.get(KIND)
    if kind not in ADAPTERS:
        raise UserError(
            f"{path}: does not say what kind of adapter it is. Write a job file with `job: generate` and the `adapter` "
            "section of the job that trained it."
        )
    found: dict[str, Any] = {"type": kind, "name_or_path": str(path)}
    found |= {setting: told[key] for key, setting in _SETTINGS.items() if key in told}
    if _TOKEN_PX in told:
        found["subpixel_downscale_factor"] = int(told[_TOKEN_PX]) // _CELLS
    return found


def is_adapter(path: Path) -> bool:
    """Whether a file says that it is an adapter. One that cannot be read says nothing."""
    with suppress(UserError):
        return KIND in read_metadata(path)
    return False


def must_fit(path: Path, adapter: AdapterConfig, *, arch: str, encoder: str | None) -> None:
    """Compare what the header of an adapter's file says, if it says anything, with a job.

    Args:
        path: the file.
        adapter: the job's adapter.
        arch: the job's model.
        encoder: fingerprint of its vision encoder; None if that is not known, or there is none.

    Raises:
        UserError: the file is damaged, or of another adapter, model or encoder.
    """
    expected = {KIND: adapter.type, "adapter_arch": arch}
    if encoder is not None:
        expected["adapter_encoder"] = encoder
    told = read_metadata(path)
    must_match(told, expected, source=str(path))
    own = {key: _as_told(adapter, setting) for key, setting in _SETTINGS.items() if key in told}
    if _TOKEN_PX in told:
        own[_TOKEN_PX] = str(_CELLS * adapter.subpixel_downscale_factor)
    must_match(told, own, source=str(path))


def _as_told(adapter: AdapterConfig, setting: str) -> str:
    value = adapter.layer if setting == "clip_layer" else getattr(adapter, setting)
    value = adapter.tokens if setting == "num_tokens" else value
    return str(value).lower()
