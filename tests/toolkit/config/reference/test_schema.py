from __future__ import annotations

from typing import Any

import pytest

from toolkit.config.compat.ignored_keys import IGNORED
from toolkit.config.job import job_sections
from toolkit.config.reference.schema import job_schema
from toolkit.optimizers.params import AnyParams
from toolkit.section import Section


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return job_schema()


@pytest.mark.parametrize("section", sorted(set(job_sections().values()), key=str))
def test_editors_know_every_key_of_a_section_and_no_other(section: type[Section], schema: dict[str, Any]) -> None:
    definition = schema["$defs"].get(section.__name__, schema)
    left_alone = {key for row in IGNORED if issubclass(section, row.section) for key in row.off}
    flags = {"is_flux2", "is_flux"} if section.__name__ == "ModelConfig" else set()
    assert set(definition["properties"]) == set(section.model_fields) | set(section.aliases) | left_alone | flags
    assert definition["additionalProperties"] is (section is AnyParams)  # the constructor of a class of the user's


def test_editors_accept_the_short_forms(schema: dict[str, Any]) -> None:
    definitions = schema["$defs"]
    assert "string" in str(definitions["SampleConfig"]["properties"]["prompts"]["items"])
    assert {"integer", "array"} == {
        kind["type"] for kind in definitions["DatasetConfig"]["properties"]["resolution"]["anyOf"]
    }
    assert {"bf16", "bfloat16", "float16"} <= set(definitions["SaveConfig"]["properties"]["dtype"]["enum"])


def test_a_required_key_may_have_its_other_name(schema: dict[str, Any]) -> None:
    dataset, model = schema["$defs"]["DatasetConfig"], schema["$defs"]["ModelConfig"]
    assert dataset["allOf"] == [{"anyOf": [{"required": ["folder_path"]}, {"required": ["dataset_path"]}]}]
    assert model["required"] == ["name_or_path"]
    assert {"required": ["is_flux2"]} in model["allOf"][0]["anyOf"]
