"""Whether there is nothing left to do: all steps are done, and the final weights are saved as the job asks."""

from __future__ import annotations

from pathlib import Path

from toolkit.config.updates.average import RAW
from toolkit.train.resume import ResumePlan
from toolkit.train.run_facts import RunFacts, writes_folders

_SHAPES_FILES = ("dtype", "save_format", "lora_format")


def is_finished(plan: ResumePlan, facts: RunFacts, folder: Path) -> bool:
    """Whether the run can end before it loads anything. At most, retention still has old checkpoints to delete.

    Args:
        plan: where this start resumes from.
        facts: the facts of this start.
        folder: the job's output folder.
    """
    train, save = facts.config["train"], facts.config["save"]
    if plan.bundle is None or plan.superseded or plan.step < train["steps"] or train["force_first_sample"]:
        return False
    config = plan.bundle.manifest.get("config", {})
    before = config.get("save", {})
    merged = [one.get("train", {}).get("merge_network_on_save", False) for one in (config, facts.config)]
    if merged[0] != merged[1]:
        return False
    names = [facts.job, *([f"{facts.job}{RAW}"] if (train.get("ema_config") or {}).get("save_raw") else [])]
    end = "" if writes_folders(facts.config) else ".safetensors"
    are_there = all((folder / f"{name}{end}").exists() for name in names)
    return are_there and all(before.get(key) == save[key] for key in _SHAPES_FILES)


def describe_end(plan: ResumePlan, steps: int) -> list[str]:
    """One line if nothing is left to train, otherwise none.

    Args:
        plan: where the start resumes from.
        steps: total number of steps of the job.
    """
    return [f"all {steps} steps are done; raise train.steps to train further"] if plan.step >= steps else []
