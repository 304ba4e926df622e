"""A whole job file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator

from toolkit.config.process import ProcessConfig, must_be_folder_name
from toolkit.config.reading.placeholders import redact, redact_texts, secrets_of_environment
from toolkit.config.section import Section
from toolkit.config.spellings import Spellings


class RunConfig(Section):
    """`config`: a named list of processes."""

    name: str = Field(min_length=1, description="Name of the job: its output folder and the beginning of file names.")
    process: tuple[ProcessConfig, ...] = Field(min_length=1, description="What to do, one after another.")

    @field_validator("name")
    @classmethod
    def _must_be_folder_name(cls, name: str) -> str:
        return must_be_folder_name(name)


class JobFile(Section):
    """The job file."""

    job: Annotated[Literal["extension"], Spellings({})] = Field("extension", description="Kind of job.")
    config: RunConfig = Field(description="What to do.")
    meta: dict[str, Any] = Field(
        default_factory=dict, description="Free values, copied into the metadata of saved files."
    )


@dataclass(frozen=True)
class JobConfig:
    """A job that has been read and checked.

    Attributes:
        path: the job file.
        job, meta, config: its content.
        notices: what the user should know, one line each.
        written: the parsed file with `[name]` and overrides settled, `${VAR}` as written.
        secrets: the value of every `${VAR}` in it, and of every variable that holds a secret by its name.
    """

    path: Path
    job: str
    meta: Mapping[str, Any]
    config: RunConfig
    notices: tuple[str, ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name of the job."""
        return self.config.name

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
