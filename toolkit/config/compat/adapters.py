"""Adapters as ai-toolkit's job files write them: what has another spelling here, and the kinds that are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolkit.config.reading.locations import Location

Finding = tuple[Location, str]

_REFERENCES = (
    "FLUX.2 reads reference images natively, without new weights: give them as `datasets[].control_path`, and train a "
    "`network`"
)
_ENCODERS = "it replaces or extends text encoders of other models, and FLUX's prompts need no other encoder"
_OTHERS = "it is made for other models"
REFUSED_TYPES: Mapping[str, str] = {
    "t2i": _OTHERS,
    "control_net": f"{_OTHERS}. For edges, depth or masks use `control_lora`",
    "i2v": _OTHERS,
    "clip": _ENCODERS,
    "clip_fusion": _ENCODERS,
    "text_encoder": _ENCODERS,
    "te_augmenter": _ENCODERS,
    "single_value": _ENCODERS,
    "llm_adapter": _ENCODERS,
    "reference": _REFERENCES,
    "photo_maker": _REFERENCES,
    "ilora": _REFERENCES,
    "ipz": "use `ip` or `ip+`",
    "ip_clip_face": "use `ip+`, with images of faces",
}
"""Why a kind of adapter that ai-toolkit has is not trained here."""


def adapter_entries(process: Mapping[str, Any]) -> list[tuple[Location, Any]]:
    """The adapters of a process as written, each with its location."""
    adapters = process.get("adapter")
    if isinstance(adapters, dict):
        return [(("adapter",), adapters)]
    return [(("adapter", index), entry) for index, entry in enumerate(adapters if isinstance(adapters, list) else [])]


def read_adapters(process: dict[str, Any]) -> list[Finding]:
    """Rewrite ai-toolkit's spellings in place."""
    return [
        finding
        for location, entry in adapter_entries(process)
        if isinstance(entry, dict)
        for finding in _only_double(entry, location)
    ]


def _only_double(entry: dict[str, Any], location: Location) -> Iterator[Finding]:
    """`flux_only_double` is a value of `blocks`."""
    if entry.get("flux_only_double") not in (None, True, False) or "flux_only_double" not in entry:
        return
    is_on = entry.pop("flux_only_double")
    if is_on and entry.setdefault("blocks", "double") != "double":
        yield (*location, "flux_only_double"), "means `blocks: double`, but `blocks` differs: keep one of them"
