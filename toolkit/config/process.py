"""One entry of `process`: the settings that every kind of process has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from toolkit.cards import ModelCard
from toolkit.config.paths import UserPath
from toolkit.config.reading.locations import Location
from toolkit.config.reading.suggest import did_you_mean
from toolkit.section import Harmless, Section, Shown

LONGEST_NAME_BYTES = 200  # file systems allow 255, and a checkpoint's name adds its step and extension


class Findings(NamedTuple):
    """Problems and notices found in an entry before its values are checked, with locations relative to the entry."""

    problems: list[tuple[Location, str]]
    notices: list[tuple[Location, str]]


class ProcessConfig(Section):
    """One entry of `config.process`. Each kind of process has a subclass with its own settings.

    Attributes:
        keeps_checkpoints: whether a stopped run can be resumed from what it has saved.
    """

    keeps_checkpoints: ClassVar[bool] = False

    type: Harmless[Annotated[str, Shown(label="Kind of job", level="expert")]] = Field(
        description="Kind of process, such as sd_trainer."
    )
    name: Harmless[Annotated[str | None, Shown(label="Output folder name", level="expert")]] = Field(
        None, min_length=1, description="Name of the output folder. Unset: the name of the job."
    )
    training_folder: Harmless[Annotated[UserPath, Shown(label="Output folder", widget="folder")]] = Field(
        Path("output"), description="Parent folder of all output folders."
    )
    device: Harmless[str] = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto (the best available), cpu, mps, cuda or cuda:N.",
    )

    @classmethod
    def prepare(cls, entry: dict[str, Any], cards: Mapping[str, ModelCard]) -> Findings:
        """Check an entry before validation, and fill in defaults for keys it does not give, in place.

        Args:
            entry: the mapping in the job file. Aliases of keys and `${VAR}` are resolved; nothing else has been
                checked yet.
            cards: the model cards by arch.
        """
        return Findings([], [])

    def output_folder(self, job_name: str) -> Path:
        """The folder that everything from this process is written to."""
        return self.training_folder / (self.name or job_name)

    def run_facts(self) -> dict[str, Any]:
        """The settings that the record of a run lists by name, in addition to the hash of all settings."""
        return {}

    @field_validator("type")
    @classmethod
    def _must_be_known(cls, kind: str, info: ValidationInfo) -> str:
        if info.context is not None and kind not in info.context.processes:
            known = sorted(info.context.processes)
            raise ValueError(f'no process type "{kind}".{did_you_mean(kind, known)} Known: {", ".join(known)}')
        return kind

    @field_validator("name")
    @classmethod
    def _must_be_folder_name(cls, name: str | None) -> str | None:
        return None if name is None else must_be_folder_name(name)


def must_be_folder_name(name: str) -> str:
    """Check and return a name that becomes a folder and the start of file names.

    Raises:
        ValueError: the name cannot be a folder name.
    """
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME_BYTES:
        raise ValueError(f'"{name[:30]}..." is too long for a folder name: use at most {LONGEST_NAME_BYTES} bytes')
    if name.strip() != name or name in (".", "..") or any(sign in '/\\<>:"|?*' or ord(sign) < 32 for sign in name):
        raise ValueError(f'"{name}" cannot be a folder name: use no / \\ < > : " | ? * and no space at either end')
    return name
