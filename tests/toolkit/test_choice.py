"""toolkit.choice: what is promised of every row of every table that a job file may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from toolkit.choice import Choice, ChoiceOf, params_of
from toolkit.config import TrainConfig
from toolkit.dtypes import DTYPES
from toolkit.networks.choices import NETWORKS
from toolkit.objectives.choices import BIASES, LOSSES, TIMESTEPS
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.params import AdamParams
from toolkit.optimizers.schedule_choices import SCHEDULES
from toolkit.quantize.qtypes import QTYPES
from toolkit.section import Section

TABLES: dict[str, Mapping[str, Choice]] = {
    "dtypes": DTYPES,
    "networks": NETWORKS,
    "losses": LOSSES,
    "timesteps": TIMESTEPS,
    "biases": BIASES,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "qtypes": QTYPES,
}
ROWS = [(table, name) for table, rows in TABLES.items() for name in rows]


class MomentumParams(Section):
    """Settings that no optimizer of ours has."""

    momentum: float = 0.9


SGD = Choice("torch.optim:SGD", summary="Plain.", spellings=("plain",), params=MomentumParams)
BY_OPTIMIZER = params_of("optimizer", {**OPTIMIZERS, "sgd": SGD})


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_a_row_stands_for_something_and_says_what(table: str, name: str) -> None:
    row = TABLES[table][name]
    assert row.load() is not None
    assert row.summary.strip() and "\n" not in row.summary
    assert name == name.lower() and all(other == other.lower() for other in row.spellings)


@pytest.mark.parametrize("table", TABLES)
def test_no_spelling_means_two_things(table: str) -> None:
    names = [each for name, row in TABLES[table].items() for each in (name, *row.spellings)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_every_spelling_of_a_row_is_read_as_its_name(table: str, name: str) -> None:
    annotation: TypeAdapter[str] = TypeAdapter(Annotated[str, ChoiceOf(TABLES[table])])
    for spelling in (name, *TABLES[table][name].spellings):
        assert annotation.validate_python(f" {spelling.upper()}") == name
        assert spelling in annotation.json_schema()["enum"]
    with pytest.raises(ValidationError):
        annotation.validate_python("nonsense")


def test_the_settings_are_those_of_what_was_chosen() -> None:
    assert BY_OPTIMIZER.given({"optimizer": "Plain"}) is MomentumParams
    assert BY_OPTIMIZER.given({"optimizer": "nonsense"}) is BY_OPTIMIZER.given({}) is AdamParams


def test_settings_that_are_not_given_are_the_defaults_of_what_was_chosen() -> None:
    class Job(Section):
        optimizer: str = "adamw"
        params: Annotated[Section, BY_OPTIMIZER] = Field(BY_OPTIMIZER.default, validate_default=True)

    assert Job().params == AdamParams()
    assert Job(optimizer="sgd").params == MomentumParams()
    assert "params" not in Job().model_dump(exclude_defaults=True)
    assert Job.model_validate({"optimizer": "sgd", "params": {"momentum": 0.5}}).params == MomentumParams(momentum=0.5)


def test_a_strange_setting_of_what_was_chosen_is_an_error_at_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({"optimizer": "adam", "optimizer_params": {"momentum": 1, "eps": "much"}})
    assert {error["loc"] for error in caught.value.errors()} == {
        ("optimizer_params", "momentum"),
        ("optimizer_params", "eps"),
    }
