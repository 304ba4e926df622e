"""The scale of a LoRA whose tensors do not contain it: peft's settings, in a file's header or beside the file."""

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
NETWORK_ARGUMENTS = "ss_network_args"  # where kohya's trainers write the arguments of LyCORIS' networks
PEFT_PREFIX = "base_model.model."
PEFT_CONFIG = "adapter_config.json"
LONGEST_PATTERN, MOST_WILDCARDS = 200, 2
# Initialisations that change the base weights: the adapter must be added to those, not to the released weights.
_OTHER_BASES = ("pissa", "olora", "corda", "lora_ga", "loftq")


@dataclass(frozen=True)
class AdapterSettings:
    """What a header says about an adapter's scale; without peft's settings, every scale that is not in a tensor is 1.

    Attributes:
        values: peft's settings by name, without the component's prefix.
        has_rs_lora: whether kohya's arguments of the network turn on LyCORIS' `rs_lora`: alpha / sqrt(rank).
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    has_rs_lora: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the settings are known."""
        return bool(self.values)

    def alpha_of(self, name: str) -> float | None:
        """The alpha of a layer; None if the settings do not contain it."""
        default = self.values.get("lora_alpha", self.values.get("alpha"))
        return _number(self._of_layer("alpha_pattern", name, default), "alpha")

    def rank_of(self, name: str) -> float | None:
        """The configured rank of a layer, which the full factors of a LoKr do not reveal."""
        return _number(self._of_layer("rank_pattern", name, self.values.get("r")), "rank")

    def scale_of(self, name: str, rank: int) -> float:
        """alpha / rank as peft computes it, or alpha / sqrt(rank) with its `use_rslora`; 1 without settings."""
        alpha = self.alpha_of(name)
        if alpha is None:
            return 1.0
        return alpha / (rank**0.5 if self.values.get("use_rslora") else rank)

    def _of_layer(self, patterns_key: str, name: str, default: Any) -> Any:
        patterns = self.values.get(patterns_key) or {}
        if not isinstance(patterns, dict):
            raise UserError(f"{patterns_key} in the header's {ADAPTER_METADATA} must be a JSON object.")
        for pattern, value in patterns.items():
            if _compiled(pattern).match(name):
                return value
        return default


def adapter_settings(metadata: Mapping[str, str]) -> AdapterSettings:
    """The settings of the transformer's adapter in a header (`read_lora_tensors` adds those found beside the file).

    Raises:
        UserError: the settings are damaged, or the adapter belongs to modified base weights.
    """
    try:
        stored = json.loads(metadata.get(ADAPTER_METADATA, "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"the header's {ADAPTER_METADATA} is not JSON ({error}).") from error
    if not isinstance(stored, dict):
        raise UserError(f"the header's {ADAPTER_METADATA} is not a JSON object.")
    values = {key.removeprefix("transformer."): value for key, value in stored.items()}
    settings = AdapterSettings(values, _has_rs_lora(metadata))
    start = str(settings.values.get("init_lora_weights")).lower()
    if start.startswith(_OTHER_BASES):
        raise UserError(
            f"the adapter was initialised with `init_lora_weights: {start}`, which changes the base weights: it "
            "does not fit the released ones. Save it in peft with `path_initial_model_for_weight_conversion`."
        )
    return settings


def _has_rs_lora(metadata: Mapping[str, str]) -> bool:
    try:
        arguments = json.loads(metadata.get(NETWORK_ARGUMENTS, "{}"))
    except (ValueError, RecursionError):  # a note of another program's, which need not be JSON
        return False
    return isinstance(arguments, dict) and str(arguments.get("rs_lora")).lower() in ("true", "1", "yes")


def read_lora_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and its header with the settings that peft wrote beside the file.

    Raises:
        UserError: the file cannot be read, or peft wrote it and its scale is not known.
    """
    tensors = dict(read_tensors(path))
    return tensors, _header_with_settings(path, read_metadata(path), tensors)


def _header_with_settings(path: Path, metadata: Mapping[str, str], keys: Mapping[str, Any]) -> dict[str, str]:
    """A file's header, with the contents of `adapter_config.json` beside the file if its keys are in peft's format.

    Args:
        path: path of the file.
        metadata: the file's header.
        keys: the keys of the file's tensors.

    Raises:
        UserError: peft wrote the file and its scale is not known.
    """
    header = dict(metadata)
    is_peft = any(key.startswith(PEFT_PREFIX) for key in keys)
    if not is_peft or ADAPTER_METADATA in header:
        return header
    config = path.parent / PEFT_CONFIG
    if config.is_file():
        try:
            header[ADAPTER_METADATA] = config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{config}: cannot be read ({error}).") from error
    elif not any(key.endswith(".alpha") for key in keys):
        raise UserError(
            f"{path}: peft wrote it (keys start with `{PEFT_PREFIX}`) and stores the adapter's strength (alpha, its "
            f"patterns, rslora) in {PEFT_CONFIG} beside the weights, which is missing. Copy it there; if it is lost "
            'and you know the numbers, write it again: {"r": 16, "lora_alpha": 16}.'
        )
    return header


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"the header's {ADAPTER_METADATA} has the {what} {value!r}, which is not a finite number.")
    return float(value)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile one of peft's patterns: names with a wildcard or two. Repeated groups could keep `match` busy forever."""
    wildcards = sum(pattern.count(sign) for sign in "*+{?")
    if len(pattern) > LONGEST_PATTERN or wildcards > MOST_WILDCARDS or "(" in pattern:
        raise UserError(f"the header's {ADAPTER_METADATA} has an alpha_pattern that is not a layer name: {pattern}.")
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except re.error as error:
        raise UserError(f"the header's {ADAPTER_METADATA} has an invalid alpha_pattern: {error}.") from error
