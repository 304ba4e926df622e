"""Where a start resumes from: which bundle, and which files must be moved aside first."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from toolkit.config.reading.setting_changes import Difference
from toolkit.config.updates.average import average_parts
from toolkit.errors import UserError
from toolkit.output.bundles import (
    SET_ASIDE,
    STATE_FOLDER,
    BrokenBundle,
    Bundle,
    find_bundles,
    newest_bundle,
    read_bundle,
    set_aside,
    step_folders,
)
from toolkit.output.unowned import has_begun, must_not_be_read, unowned_files
from toolkit.train.run_facts import (
    RunFacts,
    SettingsChanged,
    changes_since,
    differences_since,
    shorten_list,
    writes_folders,
)

_REUSE_HINT = (
    "To continue from some of these weights, set network.pretrained_lora_path (in a full fine-tune model.name_or_path) "
    "to their path; a start from scratch, such as with `--resume none`, leaves them there"
)
_MOVED_FIRST = f"it would be overwritten, so it is first moved to `{SET_ASIDE}/`; nothing is deleted. {_REUSE_HINT}"


@dataclass(frozen=True)
class ResumeChoice:
    """What the user asked to resume from.

    Attributes:
        source: `latest` for the newest bundle in the job's folder, `none`, or the folder or bundle of another job.
        step: resume from exactly this step; None for the newest.
        accept_config_change: resume even if settings that shape the training have changed.
    """

    source: Path | Literal["latest", "none"] = "latest"
    step: int | None = None
    accept_config_change: bool = False


@dataclass(frozen=True)
class ResumePlan:
    """Where a start resumes from.

    Attributes:
        bundle: the bundle to resume from; None to begin at step 0.
        notices: what the user should know, one line each.
        superseded: bundles of steps that will be written again; they are moved aside before the first of those steps.
        keeps_optimizer: whether the bundle's optimizer state is of the optimizer that this job uses.
        unowned: files that would be overwritten and belong to no bundle of this run; they are moved aside at once.
        differences: settings that differ from those the bundle was written with.
    """

    bundle: Bundle | None
    notices: tuple[str, ...] = ()
    superseded: tuple[Bundle | BrokenBundle, ...] = ()
    keeps_optimizer: bool = True
    unowned: tuple[Path, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def step(self) -> int:
        """Number of updates already done."""
        return self.bundle.step if self.bundle else 0


def plan_resume(output_folder: Path, choice: ResumeChoice, facts: RunFacts, *, is_thorough: bool) -> ResumePlan:
    """Find the bundle to resume from, and compare the run with the one that wrote it. Writes nothing.

    Args:
        output_folder: the job's output folder.
        choice: what the user wants to resume from.
        facts: the facts of this start.
        is_thorough: verify the whole state of the bundle, not only the sizes of its files.

    Raises:
        UserError: the bundle does not exist, all bundles are damaged, the bundle lacks a part, or it does not match
            the settings; or the job reads a file that would have to be moved aside.
    """
    plan = _choose(output_folder, choice, facts, is_thorough=is_thorough)
    is_ours = plan.bundle is not None and plan.bundle.root.resolve() == output_folder.resolve()
    has_none_unfinished = plan.bundle is not None or not has_begun(output_folder)
    unowned = unowned_files(
        output_folder,
        facts.job,
        after=plan.step,
        takes_final=not is_ours and not plan.superseded and has_none_unfinished,
        writes_folders=writes_folders(facts.config),
    )
    must_not_be_read(facts.config, unowned)
    return replace(plan, unowned=unowned)


def _choose(output_folder: Path, choice: ResumeChoice, facts: RunFacts, *, is_thorough: bool) -> ResumePlan:
    if choice.source == "none":
        return ResumePlan(None, superseded=_all_bundles(output_folder))
    root, only = _where(output_folder, choice)
    bundle, passed_over = _bundle_in(root, only, is_thorough=is_thorough)
    notices = [f"{broken.folder}: skipped, {broken}" for broken in passed_over]
    if bundle is None:
        _refuse_to_lose(root, choice, passed_over)
        return ResumePlan(None, tuple(notices))
    is_ours = root.resolve() == output_folder.resolve()
    ours = _all_bundles(output_folder) if only is not None or not is_ours else ()
    superseded = tuple(
        other for other in ours if other.step > bundle.step or (not is_ours and other.step == bundle.step)
    )
    if is_ours and bundle.manifest.get("job") != facts.job and not choice.accept_config_change:
        raise UserError(
            f"{output_folder}: belongs to another job, {bundle.manifest.get('job')}. Give this job another "
            "`name`, or add --accept-config-change if it is the same job under a new name."
        )
    notices += changes_since(bundle, facts, accepts=choice.accept_config_change)
    before = bundle.manifest.get("config", facts.config)
    keeps_optimizer = before["train"]["optimizer"] == facts.config["train"]["optimizer"]
    _require_parts(bundle, before, facts.config, keeps_optimizer=keeps_optimizer)
    changed = tuple(differences_since(bundle, facts))
    return ResumePlan(bundle, tuple(notices), superseded, keeps_optimizer, differences=changed)


def bundle_to_resume(output_folder: Path, choice: ResumeChoice) -> Bundle | None:
    """The bundle that `plan_resume` finds, whose files are only counted here; None if it finds none, or refuses."""
    with contextlib.suppress(UserError):
        if choice.source != "none":
            return _bundle_in(*_where(output_folder, choice), is_thorough=False)[0]
    return None


def _where(output_folder: Path, choice: ResumeChoice) -> tuple[Path, int | None]:
    """The folder to resume from, and the step; None for the newest."""
    if isinstance(choice.source, Path):
        return _folder_and_step(choice.source, choice.step)
    return output_folder, choice.step


def _bundle_in(root: Path, only: int | None, *, is_thorough: bool) -> tuple[Bundle | None, list[BrokenBundle]]:
    """The bundle of a step, or the newest, and the damaged ones that are skipped for it."""
    if only is not None:
        return _bundle_of_step(root, only, is_thorough=is_thorough), []
    return newest_bundle(root, is_thorough=is_thorough)


def differences_in(error: UserError) -> tuple[Difference, ...]:
    """The settings that an error of `plan_resume` is about; none if it is about something else."""
    return error.differences if isinstance(error, SettingsChanged) else ()


def describe_resume(plan: ResumePlan) -> list[str]:
    """What a start will do, as lines of the plan that is printed before it."""
    lines = list(plan.notices)
    if plan.bundle is not None:
        lines.append(f"resumes from step {plan.step} ({plan.bundle.folder})")
    if plan.superseded:
        steps = ", ".join(str(bundle.step) for bundle in plan.superseded)
        lines.append(
            f"checkpoints of steps that will be trained again ({steps}) are first moved to "
            f"{plan.superseded[0].folder.parent.parent / SET_ASIDE}: nothing is deleted"
        )
    if plan.unowned:
        names = shorten_list([path.name for path in plan.unowned])
        lines.append(f"no checkpoint of this job owns {names}: {_MOVED_FIRST}")
    return lines


def move_unowned_aside(plan: ResumePlan, output_folder: Path) -> str | None:
    """Move the files that no bundle owns aside. Returns a notice for the user; None if there are none."""
    if not plan.unowned:
        return None
    new_folder = set_aside(output_folder, (), others=plan.unowned)
    names = shorten_list([path.relative_to(output_folder).as_posix() for path in plan.unowned])
    return f"no checkpoint of this job owns {names}: moved to {new_folder}, nothing was deleted. {_REUSE_HINT}"


def _folder_and_step(source: Path, step: int | None) -> tuple[Path, int | None]:
    """The job folder and step that `source` stands for: it is either a job folder or a bundle inside one."""
    with contextlib.suppress(OSError):  # the name is too long
        if (source / STATE_FOLDER).is_dir():
            return source, step
        if source.is_dir() and source.name.isdecimal() and source.parent.name == STATE_FOLDER and step is None:
            return source.parent.parent, int(source.name)
    raise UserError(
        f"--resume {source}: expected the output folder of a job, or a numbered folder in its `{STATE_FOLDER}`."
    )


def _all_bundles(output_folder: Path) -> tuple[Bundle | BrokenBundle, ...]:
    """All bundles by step, including damaged ones, which someone may still want to repair."""
    bundles, broken = find_bundles(output_folder, is_thorough=False)
    damaged = [fault for fault in broken if not fault.is_unfinished]
    return tuple(sorted([*bundles, *damaged], key=lambda bundle: bundle.step))


def _bundle_of_step(root: Path, step: int, *, is_thorough: bool) -> Bundle:
    folders = {int(folder.name): folder for folder in step_folders(root)}
    if step not in folders:
        raise UserError(f"{root}: has no checkpoint of step {step} to resume from. {_describe_steps(root)}")
    try:
        bundle = read_bundle(folders[step], is_thorough=is_thorough)
    except BrokenBundle as broken:
        raise UserError(f"{folders[step]}: cannot be resumed, {broken}. Choose another step.") from broken
    if not bundle.has_state:
        raise UserError(
            f"{root}: only the weights of step {step} were kept, not the state needed to resume "
            f"(save.max_states_to_keep). {_describe_steps(root)}"
        )
    return bundle


def _describe_steps(root: Path) -> str:
    """The steps that can be resumed, judging by their manifests alone."""
    bundles, broken = find_bundles(root, is_thorough=False)
    steps = [bundle.step for bundle in bundles if bundle.has_state]
    weights_only = [bundle.step for bundle in bundles if not bundle.has_state]
    kinds = {
        "Checkpoints that can be resumed": steps,
        "With weights only": weights_only,
        "Damaged": [fault.step for fault in broken if not fault.is_unfinished],
    }
    named = [f"{what}: {', '.join(map(str, found))}." for what, found in kinds.items() if found]
    return " ".join(named) if steps else " ".join(["Checkpoints that can be resumed: none.", *named])


def _refuse_to_lose(root: Path, choice: ResumeChoice, passed_over: Sequence[BrokenBundle]) -> None:
    if isinstance(choice.source, Path):
        raise UserError(f"--resume {root}: has no checkpoint to resume from.")
    lines = [f"  {broken.folder}: {broken}" for broken in passed_over if not broken.is_unfinished]
    stateless = [bundle for bundle in find_bundles(root, is_thorough=False)[0] if not bundle.has_state]
    lines += [f"  {bundle.folder}: only the weights were kept (save.max_states_to_keep)" for bundle in stateless]
    if lines:
        raise UserError(
            "\n".join([f"{root}: has checkpoints, but none that can be resumed:", *lines])
            + "\nNothing was changed. `--resume none` begins at step 0 and moves the old files aside; "
            "`--resume PATH` resumes from another folder, such as a backup."
        )


def _require_parts(bundle: Bundle, before: Mapping[str, Any], now: Mapping[str, Any], *, keeps_optimizer: bool) -> None:
    """Refuse a bundle that lacks a part, which would otherwise silently start from scratch.

    A manifest lists every file that was written, so an intact bundle lacks none.
    """
    needed = ["weights"]
    if bundle.step and keeps_optimizer:  # an optimizer has no state before its first step
        needed.append("optimizer")
    needed += [part for part in average_parts(before) if part in average_parts(now)]
    files = [path for part in needed for path in bundle.part_files(part)]
    missing = [path.name for path in files if path not in bundle.files]
    if missing:
        raise UserError(
            f"{bundle.folder}: cannot be resumed, its manifest does not list {', '.join(missing)}. "
            "Restore the whole folder from a backup, or choose another step with --from-step."
        )
