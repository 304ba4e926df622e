"""What a bundle records about its run, and what has changed between that run and a later start."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.config.reading.setting_changes import Difference, differences, settings_by_key
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import UserError
from toolkit.files import sha256_json
from toolkit.output.bundles import Bundle
from toolkit.parallel.agreement import require_equal
from toolkit.parallel.ranks import Ranks
from toolkit.runtime.environment import git_commit, versions
from toolkit.train.batches_per_step import ASKED, PER_STEP
from toolkit.train.rate_change import describe_rate_change

DATASET = "dataset"
ATTENTION = "attention"
_NAMED = 5


@dataclass(frozen=True)
class RunFacts:
    """What a bundle records about its run, for a later start to compare itself with.

    Attributes:
        job: the job's name.
        config: the job's settings as plain JSON, without secrets.
        dataset: image name -> hash of the image and its caption.
        device: name of the card, or `cpu`; empty until it is known.
        attention: name of the kernel of attention; empty until it is known.
        kind: the config class that `config` was made from.
        world: number of processes that train together.
        asked_accumulation: batches per step on each rank as the job file has it; None if the config says the same.
    """

    job: str
    config: Mapping[str, Any]
    dataset: Mapping[str, str]
    device: str = ""
    attention: str = ""
    kind: type[TrainingProcessConfig] = TrainingProcessConfig
    world: int = 1
    asked_accumulation: int | None = None

    @property
    def batches_per_step(self) -> int:
        """Batches that all ranks together take in a step."""
        return int(self.config["train"]["gradient_accumulation"]) * self.world

    @property
    def config_hash(self) -> str:
        """A hash of all settings."""
        return sha256_json(self.config)

    def require_equal_ranks(self, ranks: Ranks, *, base_weights: str, bundle: Bundle | None) -> None:
        """Compare what shapes the training on all ranks, which may be on machines with drives of their own.

        Args:
            ranks: the processes that train together; all of them call this.
            base_weights: a hash of the weights that the training starts from.
            bundle: the bundle that the run resumes from.

        Raises:
            UserError: the ranks differ; the message says which, and in what.
        """
        if ranks.world == 1:
            return
        facts: dict[str, str | Mapping[str, str]] = {
            "versions": {**versions(), "commit": git_commit() or ""},
            "job file": settings_by_key(self.config),
            "dataset": self.dataset,
            "base weights": base_weights,
            "checkpoint": bundle.folder.name if bundle else "",
        }
        require_equal(ranks, facts)

    def at(self, step: int) -> dict[str, Any]:
        """The facts to record in the bundle of `step`.

        Bundles are written between updates, so no micro-batch of the next update has been processed.
        """
        return {
            "job": self.job,
            "world": self.world,
            PER_STEP: self.batches_per_step,
            ASKED: self.asked_accumulation or self.config["train"]["gradient_accumulation"],
            "micro_batches_done": step * self.batches_per_step,
            "accumulation_position": 0,
            "seed": self.config["training_seed"],
            "config_hash": self.config_hash,
            "dataset_hash": sha256_json(self.dataset),
            "config": self.config,
            "versions": versions(),
            "commit": git_commit(),
            "device": self.device,
            ATTENTION: self.attention,
        }


def writes_folders(config: Mapping[str, Any]) -> bool:
    """Whether users get folders, and not single files, with these settings as plain JSON."""
    is_whole = config.get("network") is None or config["train"].get("merge_network_on_save", False)
    return bool(is_whole and config.get("save", {}).get("save_format") == "diffusers")


class SettingsChanged(UserError):
    """A checkpoint was written with other settings of what shapes the training.

    Attributes:
        differences: all settings that differ, including those that a resumed run may change.
    """

    def __init__(self, message: str, differences: Sequence[Difference]) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


def differences_since(bundle: Bundle, facts: RunFacts) -> list[Difference]:
    """The settings that differ from those a bundle was written with; bundles of older versions do not record them."""
    before = bundle.manifest.get("config")
    if before is None:
        return []
    earlier = _as_one_process(before, bundle.manifest.get("world", 1))
    return differences(earlier, _as_one_process(facts.config, facts.world), facts.kind)


def changes_since(bundle: Bundle, facts: RunFacts, *, accepts: bool) -> list[str]:
    """What has changed since a bundle was written, one line each; bundles of older versions do not record it.

    Args:
        bundle: a bundle written by an earlier start.
        facts: the facts of this start.
        accepts: whether the user accepts changed settings that shape the training.

    Raises:
        SettingsChanged: settings that shape the training have changed, and `accepts` is False.
    """
    if "config" not in bundle.manifest:
        return []
    found = differences_since(bundle, facts)
    blocking = [difference for difference in found if not difference.is_harmless]
    if blocking and not accepts:
        lines = [f"  {difference}" for difference in blocking]
        raise SettingsChanged(
            "\n".join([f"{bundle.folder}: settings that shape the training have changed since it was written:", *lines])
            + f"\nUndo the changes, add --accept-config-change to resume from step {bundle.step} with them, "
            "or give the job another name to start from scratch.",
            found,
        )
    notices = [
        f"changed since step {bundle.step}: {difference}{_remark(difference.key, facts)}" for difference in found
    ]
    notices += describe_rate_change(bundle.manifest["config"]["train"], facts.config["train"], bundle.step)
    dataset = describe_dataset_change(_dataset(bundle, facts), facts.dataset)
    if dataset:
        notices.append(f"the dataset has changed since step {bundle.step}: {dataset}")
    before, now = bundle.manifest.get("versions"), versions()
    before = before if isinstance(before, dict) else {}
    bumped = [f"{name} {before[name]} -> {now[name]}" for name in before if now.get(name, before[name]) != before[name]]
    if bumped:
        notices.append(f"changed since step {bundle.step}: {', '.join(bumped)}; losses may differ in their last digits")
    return notices


def describe_dataset_change(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """How many files were added, removed and changed, with the names of the first few; None if none were."""
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if before.get(name, now[name]) != now[name]],
    }
    return ", ".join(f"{len(names)} {kind} ({shorten_list(names)})" for kind, names in kinds.items() if names) or None


def shorten_list(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _as_one_process(config: Any, world: Any) -> Any:
    """The settings with which one process does what so many do together: it accumulates as many times more batches.

    Damaged settings are returned as they are: comparing them names what is wrong.
    """
    train = config.get("train") if isinstance(config, Mapping) else None
    batches = train.get("gradient_accumulation") if isinstance(train, Mapping) else None
    if isinstance(train, Mapping) and isinstance(batches, int) and isinstance(world, int):
        return {**config, "train": {**train, "gradient_accumulation": batches * world}}
    return config


def _dataset(bundle: Bundle, facts: RunFacts) -> Mapping[str, str]:
    try:
        saved = json.loads((bundle.folder / f"{DATASET}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # only sizes have been checked so far: the thorough check will skip this bundle
        return facts.dataset
    return saved if isinstance(saved, dict) else facts.dataset


def _remark(key: str, facts: RunFacts) -> str:
    if key == "train.optimizer":
        return " (the new optimizer starts without the old one's state)"
    return ""
