"""What a bundle says of its run, and what has changed between it and a later start."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.config.setting_changes import Difference, differences
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import UserError
from toolkit.files import sha256_json
from toolkit.output.bundles import Bundle
from toolkit.runtime.environment import git_commit, versions

DATASET = "dataset"
_NAMED = 5


@dataclass(frozen=True)
class RunFacts:
    """What a bundle says of its run, for a later start to compare itself with.

    Attributes:
        job: its name.
        config: dump of its settings, without secrets.
        dataset: a hash of every image with its caption, by name.
        device: name of the card, or `cpu`; empty before it is known.
        kind: the section that `config` was made from.
    """

    job: str
    config: Mapping[str, Any]
    dataset: Mapping[str, str]
    device: str = ""
    kind: type[TrainingProcessConfig] = TrainingProcessConfig

    @property
    def config_hash(self) -> str:
        """Hash of all settings."""
        return sha256_json(self.config)

    def at(self, step: int) -> dict[str, Any]:
        """The facts of a bundle. Bundles are written between updates: no micro-batch of the next one is done."""
        return {
            "job": self.job,
            "micro_batches_done": step * self.config["train"]["gradient_accumulation"],
            "accumulation_position": 0,
            "seed": self.config["training_seed"],
            "config_hash": self.config_hash,
            "dataset_hash": sha256_json(self.dataset),
            "config": self.config,
            "versions": versions(),
            "commit": git_commit(),
            "device": self.device,
        }


class SettingsChanged(UserError):
    """A checkpoint is of a run whose settings shaped the training otherwise.

    Attributes:
        differences: of all settings, the harmless ones too.
    """

    def __init__(self, message: str, differences: Sequence[Difference]) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


def differences_since(bundle: Bundle, facts: RunFacts) -> list[Difference]:
    """The settings that a bundle was written with otherwise. Bundles of older versions do not say."""
    before = bundle.manifest.get("config")
    return [] if before is None else differences(before, facts.config, facts.kind)


def changes_since(bundle: Bundle, facts: RunFacts, *, accepts: bool) -> list[str]:
    """What has changed since a bundle was written, one line each. Bundles of older versions do not say.

    Args:
        bundle: written by an earlier start.
        facts: of this start.
        accepts: go on although settings that shape the training have changed.

    Raises:
        SettingsChanged: such settings have changed, and `accepts` is False.
    """
    if "config" not in bundle.manifest:
        return []
    found = differences_since(bundle, facts)
    grave = [difference for difference in found if not difference.is_harmless]
    if grave and not accepts:
        lines = [f"  {difference}" for difference in grave]
        raise SettingsChanged(
            "\n".join([f"{bundle.folder}: was written with other settings of what shapes the training:", *lines])
            + f"\nUndo the changes, add --accept-config-change to go on from step {bundle.step} with them, "
            "or give the job another name to begin anew.",
            found,
        )
    notices = [
        f"changed since step {bundle.step}: {difference}{_remark(difference.key, facts)}" for difference in found
    ]
    dataset = describe_dataset_change(_dataset(bundle, facts), facts.dataset)
    if dataset:
        notices.append(f"the dataset has changed since step {bundle.step}: {dataset}")
    before, now = bundle.manifest.get("versions"), versions()
    before = before if isinstance(before, dict) else {}
    moved = [f"{name} {before[name]} -> {now[name]}" for name in before if now.get(name, before[name]) != before[name]]
    if moved:
        notices.append(f"changed since step {bundle.step}: {', '.join(moved)}; figures may differ in their last digits")
    return notices


def describe_dataset_change(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """How many files were added, removed and changed, and the first few by name; None if nothing was."""
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if before.get(name, now[name]) != now[name]],
    }
    return ", ".join(f"{len(names)} {kind} ({some_names(names)})" for kind, names in kinds.items() if names) or None


def some_names(names: Sequence[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _dataset(bundle: Bundle, facts: RunFacts) -> Mapping[str, str]:
    try:
        saved = json.loads((bundle.folder / f"{DATASET}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # only sizes have been looked at so far: the thorough look will pass this bundle over
        return facts.dataset
    return saved if isinstance(saved, dict) else facts.dataset


def _remark(key: str, facts: RunFacts) -> str:
    if key == "train.steps" and facts.config["train"]["lr_scheduler"] != "constant":
        return " (the course of the learning rate is that of the new length from here on)"
    if key == "train.optimizer":
        return " (the new one begins without the state of the old one)"
    return ""
