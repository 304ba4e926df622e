"""Which settings may change between two starts of a run, and how a later start differs from an earlier one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from toolkit.config.process import ProcessConfig
from toolkit.config.section import Section, section_of
from toolkit.config.training_process import TrainingProcessConfig

# Keys below one entry of `process`. `section.*` is every key of a section. Those below change what is looked at, where
# it is written, or how long the run is, and no step's numbers; a key that stands nowhere counts as one that does.
HARMLESS = frozenset(
    [
        "type",
        "name",
        "training_folder",
        "device",
        "log_dir",
        "logging.*",
        "save.*",
        "sample.*",
        "first_sample.*",
        "train.steps",
        "train.gradient_checkpointing",
        "train.cache_text_embeddings",
        "train.skip_first_sample",
        "train.force_first_sample",
        "train.disable_sampling",
        "model.low_vram",
        "model.memory",  # what it chooses stands in the other keys
        "model.quantize_cache",
        "model.layer_offloading",
        "model.layer_offloading_transformer_percent",
        "model.layer_offloading_text_encoder_percent",
        "model.activation_offloading",
        "model.model_kwargs.train_distilled",
        "datasets.folder_path",  # what is in it is compared file by file
        "datasets.cache_latents",
        "datasets.cache_latents_to_disk",
        "datasets.cache_text_embeddings",
        "datasets.skip_unreadable",
    ]
)
CHANGES_TRAINING = frozenset(
    [
        "trigger_word",
        "training_seed",
        "network.*",
        "datasets.caption_ext",
        "datasets.default_caption",
        "datasets.caption_dropout_rate",
        "datasets.resolution",
        "datasets.num_repeats",
        "datasets.trigger_word",
        "datasets.flip_x",
        "datasets.flip_y",
        "datasets.random_crop",
        "datasets.is_reg",
        "datasets.loss_multiplier",
        "datasets.background_color",
        "datasets.control_path",
        *(f"datasets.control_path_{number}" for number in range(1, 11)),
        "datasets.control_transparent_color",
        "datasets.control_dropout_rate",
        "datasets.allow_missing_control",
        "train.lr",
        "train.full_finetune",
        "train.full_finetune_weights",
        "train.fused_backward_pass",
        "train.bypass_guidance_embedding",
        "train.optimizer",
        "train.optimizer_params.*",
        "train.lr_scheduler",
        "train.lr_scheduler_params.*",
        "train.batch_size",
        "train.gradient_accumulation",
        "train.max_grad_norm",
        "train.dtype",
        "train.noise_scheduler",
        "train.timestep_type",
        "train.content_or_style",
        "train.min_denoising_steps",
        "train.max_denoising_steps",
        "train.loss_type",
        "train.cfg_scale",
        "train.reg_weight",
        "train.ema_config.*",
        "train.unload_text_encoder",
        "model.name_or_path",
        "model.arch",
        "model.quantize",
        "model.quantize_te",
        "model.qtype",
        "model.qtype_te",
        "model.vae_path",
        "model.assistant_lora_path",
        "model.te_name_or_path",
        "model.model_paths.*",
        "model.vae_dtype",
        "model.te_dtype",
        "model.model_kwargs.match_target_res",
    ]
)
_UNSET = "(not there)"
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class Difference:
    """One setting that is not what it was.

    Attributes:
        key: path below the process, such as `datasets[0].resolution`.
        before, now: its values, as JSON.
    """

    key: str
    before: str
    now: str

    @property
    def is_harmless(self) -> bool:
        """Whether a run may go on without being asked."""
        return is_harmless(_INDEX.sub("", self.key))

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.now}"


def is_harmless(key: str) -> bool:
    """Whether a key, without list indices, changes no step's numbers."""
    return stands_in(key, HARMLESS)


def stands_in(key: str, table: frozenset[str]) -> bool:
    """Whether `key`, or a section around it, stands in a table."""
    parts = key.split(".")
    sections = {".".join([*parts[:length], "*"]) for length in range(1, len(parts) + 1)}
    return key in table or bool(sections & table)


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], kind: type[ProcessConfig] = TrainingProcessConfig
) -> list[Difference]:
    """How two dumps of a process's settings (`mode="json"`) differ, in the order of the keys.

    A key that an older version of this program did not know counts as having had its default.

    Args:
        before: the earlier dump.
        now: the later dump.
        kind: the section that was dumped; it knows the defaults.
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    found = []
    for key in dict.fromkeys([*new, *old]):
        was = old.get(key, _default(key, kind) if key in new and not _is_in_new_section(key, old) else _UNSET)
        if was != new.get(key, _UNSET):
            found.append(Difference(key, _text(was), _text(new.get(key, _UNSET))))
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, list(value) if isinstance(value, tuple) else value


def _is_in_new_section(key: str, old: Mapping[str, Any]) -> bool:
    """Whether the section of `key` was not there at all, or was null: then its defaults did not hold."""
    section = key.rpartition(".")[0]
    return bool(section) and not any(other.startswith(f"{section}.") for other in old)


def _default(key: str, kind: type[ProcessConfig]) -> Any:
    """The default of a key; `_UNSET` if it has none or computes it."""
    section: type[Section] | None = kind
    *outer, last = _INDEX.sub("", key).split(".")
    for name in outer:
        around = None if section is None else section.model_fields.get(name)
        section = None if around is None else section_of(around.annotation)[0]
    field = None if section is None else section.model_fields.get(last)
    if section is None or field is None or field.default is PydanticUndefined:
        return _UNSET
    return section.model_construct(**{last: field.default}).model_dump(mode="json", include={last})[last]


def _text(value: Any) -> str:
    return value if value == _UNSET else json.dumps(value, ensure_ascii=False)
