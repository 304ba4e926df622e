"""A whole job file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    Field,
    SerializeAsAny,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic_core import PydanticKnownError

from toolkit.config.process import ProcessConfig, must_be_folder_name
from toolkit.config.reading.known import Known
from toolkit.config.reading.locations import Location
from toolkit.config.reading.placeholders import redact, redact_texts, secrets_of_environment
from toolkit.config.reading.suggest import nearest
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import Problem
from toolkit.section import Section, sections


def _as_its_kind(
    entry: Any, as_any_kind: ValidatorFunctionWrapHandler, info: ValidationInfo[Known | None]
) -> ProcessConfig:
    if not isinstance(entry, dict):
        return as_any_kind(entry)
    kind = kind_of(entry, info.context.processes if info.context else {})
    return kind.model_validate(entry, context=info.context)


AnyProcess = Annotated[SerializeAsAny[ProcessConfig], WrapValidator(_as_its_kind)]


class RunConfig(Section):
    """`config`: a named list of processes."""

    name: str = Field(min_length=1, description="Name of the job: its output folder and the beginning of file names.")
    process: tuple[AnyProcess, ...] = Field(min_length=1, description="What to do, one after another.")

    @field_validator("name")
    @classmethod
    def _must_be_folder_name(cls, name: str) -> str:
        return must_be_folder_name(name)


class JobFile(Section):
    """The job file."""

    job: str = Field("extension", description="Kind of job.")
    config: RunConfig = Field(description="What to do.")
    meta: dict[str, Any] = Field(
        default_factory=dict, description="Free values, copied into the metadata of saved files."
    )

    @field_validator("job", mode="before")
    @classmethod
    def _must_be_known(cls, job: Any, info: ValidationInfo[Known | None]) -> Any:
        job = job.strip().lower() if isinstance(job, str) else job
        if info.context is not None and job not in list(info.context.jobs):
            expected = " or ".join(f"'{name}'" for name in info.context.jobs)
            raise PydanticKnownError("literal_error", {"expected": expected})
        return job


def kind_of(entry: Any, processes: Mapping[str, type[ProcessConfig]]) -> type[ProcessConfig]:
    """The settings that an entry of `process` has by its `type`.

    A type that does not exist stands for the nearest that does, or for training: what else is wrong with the entry is
    then told together with it.

    Args:
        entry: the mapping in the job file, not checked yet.
        processes: the settings of every type.
    """
    name = entry.get("type") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        return TrainingProcessConfig
    near = name if name in processes else nearest(name, processes)
    return TrainingProcessConfig if near is None else processes[near]


def job_sections(kind: type[ProcessConfig] = TrainingProcessConfig) -> dict[str, type[Section]]:
    """Every section of a job with a process of this kind, by its path, such as `config.process[].train`."""
    return sections(JobFile) | sections(kind, "config.process[]")


@dataclass(frozen=True)
class JobConfig:
    """A job that has been read and checked.

    Attributes:
        path: the job file.
        job, meta, config: its content.
        remarks: what the user should know, each with its place.
        written: the parsed file with `[name]` and overrides settled, `${VAR}` as written.
        places: line and column, from 1, of the keys and list entries of its text.
        secrets: the value of every `${VAR}` in it, and of every variable that holds a secret by its name.
    """

    path: Path
    job: str
    meta: Mapping[str, Any]
    config: RunConfig
    remarks: tuple[Problem, ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    places: Mapping[Location, tuple[int, int]] = field(default_factory=dict, repr=False)

    @property
    def notices(self) -> tuple[str, ...]:
        """The remarks, one line each."""
        return tuple(map(str, self.remarks))

    @property
    def name(self) -> str:
        """The name of the job."""
        return self.config.name

    def training(self, index: int = 0) -> TrainingProcessConfig:
        """An entry of `process` that is a training run.

        Raises:
            TypeError: it is of another kind.
        """
        process = self.config.process[index]
        if not isinstance(process, TrainingProcessConfig):
            raise TypeError(f"process {index} is of the kind {process.type}, which does not train")
        return process

    def as_written(self) -> str:
        """The job as YAML, safe to store: `[name]` and overrides are settled, `${VAR}` is not."""
        written = redact_texts(self.written, secrets_of_environment(self.secrets))
        return yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=120)

    def with_model_settings(self, process_id: int, settings: Mapping[str, Any]) -> JobConfig:
        """The job with more keys in the `model` section of one of its processes, where it is stored."""
        written = copy.deepcopy(dict(self.written))
        written["config"]["process"][process_id]["model"] |= settings
        return replace(self, written=written)

    def redact(self, text: str) -> str:
        """`text` with every one of `secrets` replaced by `${ITS_NAME}`."""
        return redact(text, self.secrets)

    def redacted(self, value: Any) -> Any:
        """Plain JSON with every text in it redacted."""
        return redact_texts(value, self.secrets)
