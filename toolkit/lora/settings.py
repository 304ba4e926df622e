"""What a LoRA's settings say of its scale where the tensors do not: peft's, in a file's header or beside the file."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.errors import UserError
from toolkit.weights.tensor_files import read_metadata, read_tensors

ADAPTER_METADATA = "lora_adapter_metadata"  # where diffusers writes peft's settings
PEFT_PREFIX = "base_model.model."
PEFT_CONFIG = "adapter_config.json"
LONGEST_PATTERN, MOST_WILDCARDS = 200, 2
# Ways to start that change the base weights: what is in the file adds to those, not to the released ones.
_OTHER_BASES = ("pissa", "olora", "corda", "lora_ga", "loftq")


@dataclass(frozen=True)
class AdapterSettings:
    """peft's settings of one adapter; empty where nothing is known of them, and then scales are 1.

    Attributes:
        values: by name, without the component's.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """There are settings."""
        return bool(self.values)

    def alpha_of(self, name: str) -> float | None:
        """The alpha of a layer; None if the settings do not say."""
        default = self.values.get("lora_alpha", self.values.get("alpha"))
        return _number(self._of_layer("alpha_pattern", name, default), "alpha")

    def rank_of(self, name: str) -> float | None:
        """The rank that was asked for in a layer, which full factors of a LoKr do not show."""
        return _number(self._of_layer("rank_pattern", name, self.values.get("r")), "rank")

    def scale_of(self, name: str, rank: int) -> float:
        """alpha / rank as peft reckons it, or alpha / sqrt(rank) with its `use_rslora`; 1 without settings."""
        alpha = self.alpha_of(name)
        if alpha is None:
            return 1.0
        return alpha / (rank**0.5 if self.values.get("use_rslora") else rank)

    def _of_layer(self, patterns_key: str, name: str, default: Any) -> Any:
        patterns = self.values.get(patterns_key) or {}
        if not isinstance(patterns, dict):
            raise UserError(f"the {ADAPTER_METADATA} has an {patterns_key} that is no object.")
        for pattern, value in patterns.items():
            if _compiled(pattern).match(name):
                return value
        return default


def adapter_settings(metadata: Mapping[str, str]) -> AdapterSettings:
    """The settings of the transformer's adapter in a header (`read_lora_tensors` puts those beside the file there).

    Raises:
        UserError: they are damaged, or say that the adapter belongs to changed base weights.
    """
    try:
        stored = json.loads(metadata.get(ADAPTER_METADATA, "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"the header's {ADAPTER_METADATA} is no JSON ({error}).") from error
    if not isinstance(stored, dict):
        raise UserError(f"the header's {ADAPTER_METADATA} is no JSON object.")
    settings = AdapterSettings({key.removeprefix("transformer."): value for key, value in stored.items()})
    start = str(settings.values.get("init_lora_weights")).lower()
    if start.startswith(_OTHER_BASES):
        raise UserError(
            f"the adapter was started with `init_lora_weights: {start}`, which changes the base weights: it does not "
            "fit the released ones. Save it in peft with `path_initial_model_for_weight_conversion`."
        )
    return settings


def read_lora_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and its header with what peft has written beside the file.

    Raises:
        UserError: it cannot be read, or peft wrote it and its scale is nowhere.
    """
    tensors = dict(read_tensors(path))
    return tensors, _header_with_settings(path, read_metadata(path), tensors)


def _header_with_settings(path: Path, metadata: Mapping[str, str], keys: Mapping[str, Any]) -> dict[str, str]:
    """A file's header, with peft's `adapter_config.json` beside the file where its names are peft's own.

    Args:
        path: the file.
        metadata: its header.
        keys: of its tensors.

    Raises:
        UserError: peft wrote it, and its scale is nowhere.
    """
    header = dict(metadata)
    is_peft = any(key.startswith(PEFT_PREFIX) for key in keys)
    if not is_peft or ADAPTER_METADATA in header:
        return header
    beside = path.parent / PEFT_CONFIG
    if beside.is_file():
        try:
            header[ADAPTER_METADATA] = beside.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{beside}: cannot be read ({error}).") from error
    elif not any(key.endswith(".alpha") for key in keys):
        raise UserError(
            f"{path}: its names are peft's (`{PEFT_PREFIX}`), and peft writes how strong an adapter is (alpha, its "
            f"patterns, rslora) into {PEFT_CONFIG} beside the weights, which is not there. Copy it there; where it is "
            'lost and you know the numbers, write it anew: {"r": 16, "lora_alpha": 16}.'
        )
    return header


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"the header's {ADAPTER_METADATA} has the {what} {value!r}, which is no number.")
    return float(value)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of peft's. Names do, and a wildcard or two; repeated groups could keep `match` busy for years."""
    wildcards = sum(pattern.count(sign) for sign in "*+{?")
    if len(pattern) > LONGEST_PATTERN or wildcards > MOST_WILDCARDS or "(" in pattern:
        raise UserError(f"the header's {ADAPTER_METADATA} has an alpha_pattern that is no name of a layer: {pattern}.")
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except re.error as error:
        raise UserError(f"the header's {ADAPTER_METADATA} has an alpha_pattern that is wrong: {error}.") from error
