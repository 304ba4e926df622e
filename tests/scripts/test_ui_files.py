"""scripts.write_ui_files"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from scripts.typescript import types
from scripts.write_ui_files import REPOSITORY, generated
from toolkit.config.reference.form import FormField, form_schema
from toolkit.config.remarks import OnlyWith
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.section import Harmless, Section, Shown


def test_the_generated_files_are_current() -> None:
    stale = [path for path, text in generated().items() if (REPOSITORY / path).read_text(encoding="utf-8") != text]
    assert not stale, "run python scripts/write_ui_files.py"


def fields() -> dict[str, FormField]:
    return {field.path: field for section in form_schema().sections for field in section.fields}


def test_the_form_has_every_key_of_a_training_job_with_its_help() -> None:
    found = fields()
    assert len(found) > 150
    assert not [path for path, field in found.items() if not field.help]
    steps = found["train.steps"]
    assert (steps.kind, steps.default, steps.minimum, steps.level, steps.unit) == ("int", 1000, 1, "basic", "steps")
    assert steps.is_harmless
    assert found["model.quantize_te"].default_key == "quantize"
    assert found["datasets[].folder_path"].widget == "folder"
    assert {choice.value for choice in found["train.optimizer"].choices} >= {"adamw", "adamw8bit"}
    assert found["train.cfg_scale"].needs == "guidance_embed"
    assert found["model.qtype"].when == "with `quantize: true`"


def test_no_more_than_fifteen_keys_are_asked_of_everybody() -> None:
    basic = [path for path, field in fields().items() if field.level == "basic" and not path.startswith("first_")]
    assert len(basic) < 15, "the name of the job is one more"


def test_settings_are_called_by_words() -> None:
    schema = form_schema()
    labels = {field.path: field.label for section in schema.sections for field in section.fields}
    assert labels["train.lr"] == "Learning rate"
    assert labels["model.arch"] == "Model"
    assert labels["model.te_dtype"] == "Text encoder precision"  # of its parts: nobody has named it
    titles = [section.title for section in schema.sections]
    short = re.compile(r"_|\b(lr|te|vae|dtype|qtype|params|kwargs|config|img|neg|num|reg|ext|arch|eps)\b")
    assert [label for label in (*labels.values(), *titles) if short.search(label) or not label[0].isupper()] == []


def test_a_new_setting_appears_in_the_form() -> None:
    class Toy(Section):
        """`toy`: of a test."""

        depth: Harmless[Annotated[int, Shown(level="basic", unit="m"), OnlyWith("in deep water", bool)]] = Field(
            3, ge=1, lt=9, description="How deep."
        )

    class WithToy(TrainingProcessConfig):
        """With a toy."""

        toy: Toy = Field(Toy(), description="A toy.")

    section = next(section for section in form_schema(WithToy).sections if section.path == "toy")
    (depth,) = section.fields
    assert depth == FormField(
        key="depth",
        path="toy.depth",
        label="Depth",
        kind="int",
        default=3,
        help="How deep.",
        level="basic",
        unit="m",
        minimum=1,
        maximum=9,
        is_maximum_excluded=True,
        when="in deep water",
        is_harmless=True,
    )


def test_types_say_what_may_be_left_out_and_what_may_be_null() -> None:
    class Inner(BaseModel):
        """One of several."""

        name: str

    class Outer(BaseModel):
        """Holds them. */"""

        entries: list[Inner | None]
        sizes: dict[str, int] = {}

    assert types([Outer], "validation") == (
        "/** One of several. */\nexport interface Inner {\n  name: string;\n}\n\n"
        "/** Holds them. * / */\nexport interface Outer {\n  entries: (Inner | null)[];\n"
        "  sizes?: Record<string, number>;\n}\n"
    )


def test_a_form_is_plain_json(tmp_path: Path) -> None:
    text = json.dumps(form_schema().model_dump(mode="json"))
    assert json.loads(text)["name"]["path"] == "config.name"
