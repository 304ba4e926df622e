"""Job files with a kind of process that has settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from tests.toolkit.config.conftest import Check, Problems, Tree
from toolkit.config import ProcessConfig, TrainingProcessConfig
from toolkit.config.paths import ExistingFolder
from toolkit.config.reading.installed import Processes, ProcessKind
from toolkit.config.reading.known import Known
from toolkit.config.reading.layout import Layout
from toolkit.config.reading.setting_changes import differences
from toolkit.config.reference.docs import config_docs
from toolkit.config.reference.schema import job_schema
from toolkit.extension import Extension
from toolkit.section import Section


class Font(Section):
    """A section of another kind of process."""

    aliases: ClassVar[Mapping[str, str]] = {"height": "size"}

    size: int = Field(12, ge=1, description="Height of the letters.")


class WriterConfig(ProcessConfig):
    """A process that has nothing to do with training."""

    text: str = Field(description="What to write.")
    folder: ExistingFolder | None = Field(None, description="Where.")
    font: Font = Field(Font(), description="How.")


class OwnTrainerConfig(TrainingProcessConfig):
    """A trainer with one setting more."""

    text: str = Field("none", description="What to write.")


class Writer(Extension):
    """A kind of process of another kind of job."""

    uid = "writer"
    name = "Writer"
    config = WriterConfig
    jobs = ("extension", "generate")


@pytest.fixture
def known(known: Known) -> Known:
    """Two trainers, a writer and a trainer of one's own; the writer belongs to `generate`, too."""
    processes: dict[str, type[ProcessConfig]] = {
        **known.processes,
        "writer": WriterConfig,
        "own_trainer": OwnTrainerConfig,
    }
    return Known(known.cards, processes, {"extension": list(processes), "generate": ["writer"]})


@pytest.fixture
def writer(job: dict[str, Any]) -> dict[str, Any]:
    """The only process of `job`, which writes."""
    entry: dict[str, Any] = {"type": "writer", "text": "hello"}
    job["config"]["process"] = [entry]
    return entry


def test_it_is_read_with_its_own_settings(writer: Tree, check: Check) -> None:
    writer["font"] = {"height": 3}
    checked = check()
    (process,) = checked.config.process
    assert isinstance(process, WriterConfig)
    assert (process.text, process.font.size, process.output_folder("cat")) == ("hello", 3, Path("output/cat"))
    assert checked.notices == ()


def test_nothing_of_training_is_put_into_it_or_asked_of_it(writer: Tree, check: Check) -> None:
    (process,) = check().config.process
    assert set(process.model_dump()) == {"type", "name", "training_folder", "device", "text", "folder", "font"}
    assert set(check().config.model_dump()["process"][0]) == set(process.model_dump())


def test_its_mistakes_are_reported_like_those_of_a_training(writer: Tree, problems: Problems) -> None:
    writer |= {"txt": 1, "text": 5, "folder": "/no/such/folder", "font": {"height": 0, "color": "red"}, "size": 3}
    writer |= {"device": "gpu", "network": {"type": "lora"}}
    assert problems() == {
        "text": "needs text (put a number in quotes to make it text) (found 5)",
        "txt": "unknown key (found 1). Did you mean `text`?",
        "folder": 'no folder "/no/such/folder"',
        "font.height": "needs at least 1 (found 0)",
        "font.color": 'unknown key (found "red").',
        "size": "unknown key (found 3). It belongs in `font`.",
        "device": 'not a valid value (found "gpu"). Choose auto (the best available), cpu, mps, cuda or cuda:N.',
        "network": "unknown key (found keys with values).",
    }


def test_a_missing_setting_is_reported_with_its_meaning(writer: Tree, problems: Problems) -> None:
    del writer["text"]
    assert problems() == {"text": "missing. What to write."}


def test_a_misspelt_type_is_read_as_the_one_that_was_meant(writer: Tree, problems: Problems) -> None:
    writer |= {"type": "writr", "txt": 1}
    assert set(problems()) == {"type", "txt"}
    assert "Did you mean `writer`?" in problems()["type"]


def test_processes_of_several_kinds_stand_in_one_job(
    job: Tree, process: Tree, problems: Problems, check: Check
) -> None:
    job["config"]["process"] = [{"type": "writer", "text": "a"}, process, {"type": "writer"}]
    assert problems() == {"config.process[2].text": "missing. What to write."}
    job["config"]["process"].pop()
    assert [type(entry) for entry in check().config.process] == [WriterConfig, TrainingProcessConfig]


def test_settings_from_the_command_line_reach_it(writer: Tree, check: Check, problems: Problems) -> None:
    (process,) = check(overrides=["text=bye", "font.height=4"]).config.process
    assert (process.text, process.font.size) == ("bye", 4)
    assert "Did you mean `text`?" in problems(overrides=["txt=1"])["txt"]


def test_a_trainer_with_a_setting_more_is_a_trainer(process: Tree, check: Check, problems: Problems) -> None:
    process |= {"type": "own_trainer", "text": "hello", "sqlite_db_path": "./aitk_db.db"}
    process["model"]["arch"] = "flux2_small"
    (checked,) = check().config.process
    assert isinstance(checked, OwnTrainerConfig)
    assert (checked.text, checked.train.steps) == ("hello", 77)  # the card's
    del process["network"]
    assert list(problems()) == ["network"]


def test_a_setting_that_a_trainer_gets_later_had_its_default(process: Tree, check: Check) -> None:
    process["type"] = "own_trainer"
    before = check().config.process[0].model_dump(mode="json")
    process["text"] = "hello"
    now = check().config.process[0].model_dump(mode="json")
    del before["text"]
    (difference,) = differences(before, now, OwnTrainerConfig)
    assert str(difference) == 'text: "none" -> "hello"'


def test_a_kind_of_job_has_its_own_processes(
    job: Tree, process: Tree, writer: Tree, problems: Problems, check: Check
) -> None:
    job["job"] = "Generate"
    assert check().job == "generate"
    job["config"]["process"] = [writer, process]
    what = "`sd_trainer` belongs in a file with `job: extension`; this one has `job: generate`"
    assert problems() == {"config.process[1].type": what}


def test_a_kind_of_job_that_is_not_there_yet_is_one_line(job: Tree, process: Tree, problems: Problems) -> None:
    job["job"] = "train"
    process |= {"type": "lora", "base_model": "a", "extract_model": "b", "network": {"conv_mode": 3}}
    assert problems() == {"job": '"train" is not supported yet. Choose extension or generate'}


def test_a_misspelt_kind_of_job_hides_no_other_mistake(job: Tree, process: Tree, problems: Problems) -> None:
    job["job"] = "extensoin"
    process["train"]["lrr"] = 3
    assert problems() == {
        "job": '"extensoin" is not known. Did you mean `extension`? Choose extension or generate',
        "train.lrr": "unknown key (found 3). Did you mean `lr`?",
    }


def test_a_section_is_found_by_its_place_in_the_file(known: Known) -> None:
    tree = {"config": {"process": [{"type": "writer"}, {"type": "sd_trainer"}]}}
    layout = Layout.of(tree, known)
    assert layout.section_at(("config", "process", 0, "font")) is Font
    assert layout.section_at(("config", "process", 1, "font")) is None
    assert layout.section_at(("config", "process", 7)) is ProcessConfig
    assert "config.process[].font" in layout.sections_around(("config", "process", 0, "font", "size"))
    assert "config.process[].train" in layout.sections_around(("config", "process", 1))


def test_docs_and_schema_describe_the_kinds_that_they_are_given() -> None:
    trainer = ProcessKind(Extension, TrainingProcessConfig, is_built_in=True)
    processes = Processes({"sd_trainer": trainer, "writer": ProcessKind(Writer, WriterConfig, is_built_in=True)}, ())
    docs = config_docs(processes)
    assert "## `config.process[]`\n" in docs
    assert "## `config.process[]` of `writer`\n" in docs
    assert "## `font` of `writer`\n" in docs
    assert "| `job` | `extension`, `generate` |" in docs
    assert "| `job` | `train` |" in docs
    schema = job_schema(processes)
    assert schema["properties"]["job"]["enum"] == ["extension", "generate"]
    assert set(schema["$defs"]["Font"]["properties"]) == {"size", "height"}
    entries = schema["$defs"]["RunConfig"]["properties"]["process"]["items"]["allOf"]
    assert [(entry["if"]["properties"]["type"]["enum"], entry["then"]["$ref"]) for entry in entries] == [
        (["sd_trainer"], "#/$defs/TrainingProcessConfig"),
        (["writer"], "#/$defs/WriterConfig"),
    ]
