"""Whether a start has nothing to do: every step is made, and what the user gets is written as the job wants it."""

from __future__ import annotations

from pathlib import Path

from toolkit.train.resume import ResumePlan
from toolkit.train.run_facts import RunFacts

_SHAPES_FILES = ("dtype", "save_format", "lora_format")


def is_finished(plan: ResumePlan, facts: RunFacts, folder: Path) -> bool:
    """Whether the run can end before it loads anything: only retention may have something left to do.

    Args:
        plan: where this start goes on from.
        facts: of this start.
        folder: the job's.
    """
    train, save = facts.config["train"], facts.config["save"]
    if plan.bundle is None or plan.superseded or plan.step < train["steps"] or train["force_first_sample"]:
        return False
    before = plan.bundle.manifest.get("config", {}).get("save", {})
    is_folder = facts.config.get("network") is None and save["save_format"] == "diffusers"
    final = folder / (facts.job if is_folder else f"{facts.job}.safetensors")
    return final.exists() and all(before.get(key) == save[key] for key in _SHAPES_FILES)


def describe_end(plan: ResumePlan, steps: int) -> list[str]:
    """A line where nothing is left to train.

    Args:
        plan: where the start goes on from.
        steps: of the whole run.
    """
    return [f"all {steps} steps are done; raise train.steps to go on"] if plan.step >= steps else []
