"""CONTRIBUTING's recipes, followed to the letter in a copy of the tree: what they add trains.

One subprocess trains two steps with each addition, on the smallest model: about ten seconds. The recipes of a model and
of a kind of process are in docs/extensions.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_extension_docs import FILES
from tests.tiny import ROOT, losses, write_dataset

PARTS = (
    "config",
    "docs",
    "extensions",
    "extensions_built_in",
    "jobs",
    "scripts",
    "toolkit",
    "run.py",
    "pyproject.toml",
)
LINKED = ("assets", "benchmarks")
BLOCK = re.compile(r"```python\n# (?P<path>\S+?)(?:, (?P<where>in|above) (?P<name>\w+))?\n(?P<text>.*?)```", re.DOTALL)
MOST_FILES = 2


@dataclass(frozen=True)
class Recipe:
    """One way of adding something.

    Attributes:
        title: the words in bold that the recipe begins with.
        adds: the name of what it adds, which the generated files must have.
        settings: sections of a process that use it.
    """

    title: str
    adds: str
    settings: dict[str, Any]

    @property
    def folder(self) -> str:
        """Name of its run."""
        return self.title.replace(" ", "_").lower()


RECIPES = (
    Recipe("A loss", "cauchy", {"train": {"loss_type": "cauchy"}}),
    Recipe("A timestep distribution", "triangle", {"train": {"timestep_type": "triangle"}}),
    Recipe("An optimizer", "sgd", {"train": {"optimizer": "SGD", "optimizer_params": {"momentum": 0.5}}}),
    Recipe("An objective", "anchored", {"train": {"objective": "anchored"}}),
    Recipe("A learning rate schedule", "square_root", {"train": {"lr_scheduler": "square_root"}}),
)


@dataclass(frozen=True)
class Edit:
    """A block of a recipe: a text, the file it goes into, and where: at the end, or in or above a table."""

    path: str
    where: str | None
    name: str | None
    text: str

    def carry_out(self, tree: Path) -> None:
        """Change the file."""
        file = tree / self.path
        if not file.exists():
            file.write_text(self.text, encoding="utf-8")
            return
        code = file.read_text(encoding="utf-8")
        if self.name is None:
            file.write_text(f"{code.rstrip()}\n\n\n{self.text}", encoding="utf-8")
            return
        before, opening, after = code.partition(f"\n{self.name} = {{\n")
        assert opening, f"{self.path} has no table {self.name}"
        if self.where == "above":
            code = f"{before}\n{self.text}\n{opening}{after}"
        else:
            rows, closing, rest = after.partition("\n}\n")
            code = f"{before}{opening}{rows}\n{self.text}{closing.lstrip()}{rest}"
        file.write_text(code, encoding="utf-8")


def edits_of(recipe: Recipe) -> list[Edit]:
    """What CONTRIBUTING says to do."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, found, after = text.partition(f"**{recipe.title}.**")
    assert found, f"CONTRIBUTING.md has no recipe {recipe.title}"
    own = re.split(r"^(?:\*\*|## )", after, maxsplit=1, flags=re.MULTILINE)[0]
    return [Edit(**match.groupdict()) for match in BLOCK.finditer(own)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with everything added, in which every run has been made."""
    copy = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part)  # with the compiled modules: compiling takes seconds
        else:
            shutil.copy(ROOT / part, copy / part)
    for part in LINKED:
        (copy / part).symlink_to(ROOT / part)
    for recipe in RECIPES:
        for edit in edits_of(recipe):
            edit.carry_out(copy)
    dataset = {"folder_path": str(write_dataset(copy / "images")), "resolution": 32}
    for name, text in FILES.items():
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(text, encoding="utf-8")
    recipes = [*RECIPES, Recipe("A model", "my_model", {"model": {"arch": "my_model"}})]
    processes = [_process(recipe, copy / "output", dataset) for recipe in recipes]
    processes.append({"type": "my_process", "name": "process", "training_folder": str(copy / "output")})
    job = {"job": "extension", "config": {"name": "recipes", "process": processes}}
    (copy / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    _run(copy, "run.py", "job.yaml")
    return copy


def _process(recipe: Recipe, folder: Path, dataset: dict[str, Any]) -> dict[str, Any]:
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "name": recipe.folder,
        "training_folder": str(folder),
        "device": "cpu",
        "network": {"type": "lora", "linear": 2},
        "datasets": [dataset],
        "train": {"steps": 2, "dtype": "fp32", "disable_sampling": True},
        "model": {"name_or_path": "example/pixels", "arch": "example_pixels"},
    }
    for key, values in recipe.settings.items():
        process[key] = {**process.get(key, {}), **values}
    return process


def _run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *command], cwd=tree, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_a_recipe_edits_few_files(recipe: Recipe) -> None:
    assert 1 <= len({edit.path for edit in edits_of(recipe)}) <= MOST_FILES


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_what_a_recipe_adds_trains(recipe: Recipe, tree: Path) -> None:
    assert list(losses(tree / "output" / recipe.folder)) == [1, 2]


def test_the_model_of_docs_extensions_trains(tree: Path) -> None:
    assert list(losses(tree / "output" / "a_model")) == [1, 2]


def test_the_kind_of_process_of_docs_extensions_runs(tree: Path) -> None:
    assert (tree / "output" / "process" / "text.txt").is_file()


def test_every_term_of_an_objective_is_logged_by_name(tree: Path) -> None:
    steps = [json.loads(line) for line in (tree / "output" / "an_objective" / "events.jsonl").read_text().splitlines()]
    terms = [step["terms"] for step in steps if step["kind"] == "step"]
    assert [set(each) for each in terms] == [{"velocity", "anchor"}] * 2


def test_the_generated_files_have_what_was_added(tree: Path) -> None:
    _run(tree, "scripts/write_config_docs.py")
    docs, schema = (tree / name for name in ("docs/config.md", "config/job.schema.json"))
    for recipe in RECIPES:
        assert f"`{recipe.adds}`" in docs.read_text(encoding="utf-8")
        assert f'"{recipe.adds}"' in schema.read_text(encoding="utf-8")
    _run(tree, "scripts/write_config_docs.py", "--check")
