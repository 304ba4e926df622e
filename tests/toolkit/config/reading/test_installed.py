"""toolkit.config.reading.installed: the kinds of process, and the settings that each has."""

from __future__ import annotations

import pytest

from tests.toolkit.user_extensions import add_package
from toolkit.config import ProcessConfig, TrainingProcessConfig
from toolkit.config.reading.installed import built_in_processes, find_known, find_processes, read_processes
from toolkit.extension import ROOTS, Root

TRAINING = "toolkit.config.training_process:TrainingProcessConfig"

GOOD = """
class Trainer:
    uid = "{uid}"
    name = "A trainer"
    config = "{config}"

    @classmethod
    def get_process(cls):
        raise AssertionError("asked before it was needed")

AI_TOOLKIT_EXTENSIONS = [Trainer]
"""

RAISES = """
class Loud(type):
    @property
    def config(cls):
        return 1 / 0

class Trainer(metaclass=Loud):
    uid = "bad"
    get_process = print

AI_TOOLKIT_EXTENSIONS = [Trainer]
"""

REDEFINES = """
from typing import Literal
from toolkit.config import ProcessConfig

class Config(ProcessConfig):
    {field}

class Trainer:
    uid = "bad"
    config = Config
    get_process = print

AI_TOOLKIT_EXTENSIONS = [Trainer]
"""


def test_the_trainer_has_all_the_names_that_job_files_use() -> None:
    assert {"sd_trainer", "diffusion_trainer", "ui_trainer"} <= set(find_processes())


def test_finding_processes_calls_none_of_them_and_loads_no_torch(root: Root) -> None:
    add_package(root, "mine", GOOD.format(uid="mine", config=TRAINING))
    assert set(read_processes((root,)).by_uid) == {"mine"}


def test_a_users_process_stands_before_ours_of_the_same_name(root: Root) -> None:
    add_package(root, "mine", GOOD.format(uid="sd_trainer", config=TRAINING))
    found = read_processes((root, *ROOTS)).by_uid
    assert found["sd_trainer"].extension.__module__ == f"{root.package}.mine"
    assert found["ui_trainer"].extension.__module__ == "extensions_built_in.sd_trainer"


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")  # pydantic's, of the one that hides a method
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def broken(:", "SyntaxError"),
        ("class NoUid:\n    pass\nAI_TOOLKIT_EXTENSIONS = [NoUid]", "NoUid in AI_TOOLKIT_EXTENSIONS needs `uid`"),
        ("AI_TOOLKIT_EXTENSIONS = ['text']", "must list classes, found 'text'"),
        (GOOD.format(uid="bad", config="no_such_module:Config"), "No module named 'no_such_module'"),
        (GOOD.format(uid="bad", config="toolkit.config:Nothing"), "has no attribute 'Nothing'"),
        (
            GOOD.format(uid="bad", config="toolkit.config:TrainConfig"),
            "Trainer.config must be a subclass of ProcessConfig",
        ),
        (RAISES, "ZeroDivisionError"),
        (REDEFINES.format(field="type: Literal['bad']"), "Config redefines `type`, which every kind of process has"),
        (REDEFINES.format(field="training_folder: int = 3"), "Config redefines `training_folder`"),
        (REDEFINES.format(field="output_folder: str"), "Config redefines `output_folder`"),
    ],
)
def test_a_broken_extension_is_named_with_its_error_and_the_others_work(root: Root, text: str, reason: str) -> None:
    add_package(root, "bad", text)
    add_package(root, "good", GOOD.format(uid="good", config=TRAINING))
    found = read_processes((root,))
    assert set(found.by_uid) == {"good"}
    (broken,) = found.broken
    assert broken.package == f"{root.package}.bad"
    assert reason in str(broken)


def test_a_fault_in_our_own_package_is_not_hidden(root: Root) -> None:
    add_package(root, "bad", "import no_such_library")
    ours = Root(root.package, root.folder, is_built_in=True)
    with pytest.raises(ModuleNotFoundError):
        read_processes((ours,))


def test_a_process_without_settings_of_its_own_has_those_of_training(root: Root) -> None:
    add_package(root, "old", GOOD.format(uid="old", config=TRAINING).replace(f'    config = "{TRAINING}"\n', ""))
    assert read_processes((root,)).by_uid["old"].config is TrainingProcessConfig


def test_settings_that_redefine_no_key_may_stand_anywhere(root: Root) -> None:
    add_package(root, "mine", REDEFINES.format(field="text: str"))
    (kind,) = read_processes((root,)).by_uid.values()
    assert issubclass(kind.config, ProcessConfig)
    assert list(kind.config.model_fields) == [*ProcessConfig.model_fields, "text"]


def test_a_kind_of_job_exists_as_soon_as_a_process_names_it(root: Root) -> None:
    assert set(find_known().jobs) == {"extension", "generate", "extract", "mod"}
    own = REDEFINES.format(field="text: str").replace("    uid", "    jobs = ('generate', 'extension')\n    uid")
    add_package(root, "mine", own)
    assert read_processes((root,)).jobs() == {"generate": ["bad"], "extension": ["bad"]}


def test_what_comes_with_the_trainer_is_all_built_in() -> None:
    trainers = {"sd_trainer", "diffusion_trainer", "ui_trainer", "concept_slider"}
    assert set(built_in_processes().by_uid) == {*trainers, "to_folder", "lora", "locon", "rescale_lora", "caption"}
