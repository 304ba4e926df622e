"""The house rules that a reader of STYLE would check by eye, checked by reading the source."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("toolkit", "jobs", "extensions_built_in", "scripts", "run.py", "flux_train_ui.py", "run_modal.py", "ui/server")
MAX_LINES = 350
MAX_ARGUMENTS = 6
MAX_IMPORTS = 20
MAX_MODULES = 15

# Who may know whom: a module imports from its own floor and those below. The longest matching name counts.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "toolkit",
        "toolkit.choice",
        "toolkit.dtypes",
        "toolkit.errors",
        "toolkit.extension",
        "toolkit.files",
        "toolkit.json_files",
        "toolkit.output",
        "toolkit.parallel",
        "toolkit.randomness",
        "toolkit.runtime",
        "toolkit.section",
        "toolkit.units",
        "toolkit.version",
    ),
    (
        "toolkit.adapters.choices",
        "toolkit.adapters.size",
        "toolkit.adapters.view_shape",
        "toolkit.cards",
        "toolkit.compute.attention_choices",
        "toolkit.compute.choices",
        "toolkit.compute.machine",
        "toolkit.config",
        "toolkit.config_modules",
        "toolkit.model_size",
        "toolkit.networks.choices",
        "toolkit.networks.kept",
        "toolkit.networks.settings",
        "toolkit.objectives.choices",
        "toolkit.objectives.params",
        "toolkit.optimizers.choices",
        "toolkit.optimizers.params",
        "toolkit.optimizers.power_profile",
        "toolkit.optimizers.row",
        "toolkit.optimizers.schedule_choices",
        "toolkit.optimizers.schedule_params",
        "toolkit.quantize.qtypes",
    ),
    ("toolkit.compute", "toolkit.memory", "toolkit.migrate", "toolkit.quantize", "toolkit.weights"),
    (
        "toolkit.adapters",
        "toolkit.ip_adapter",
        "toolkit.lora",
        "toolkit.lora_special",
        "toolkit.models",
        "toolkit.networks",
        "toolkit.stable_diffusion_model",
        "toolkit.util",
        "extensions_built_in",
        "extensions_built_in.diffusion_models",
    ),
    ("toolkit.data", "toolkit.encode", "toolkit.plan.needs"),
    ("toolkit.hub", "toolkit.objectives", "toolkit.optimizers", "toolkit.plan", "toolkit.report"),
    ("toolkit.draw",),
    ("toolkit.train",),
    ("jobs",),
    (
        "extensions_built_in.captioner",
        "extensions_built_in.generator",
        "extensions_built_in.lora_tools",
        "extensions_built_in.sd_trainer",
    ),
    ("flux_train_ui", "run", "run_modal", "scripts", "toolkit.lora.__main__", "ui"),
)

# What the command line, a check and web pages ask, with all that belongs to it but for `ANSWERS_LATER`.
ANSWERS_AT_ONCE = (
    "jobs.about",
    "jobs.check_json",
    "jobs.cloud",
    "jobs.in_a_row",
    "jobs.job",
    "jobs.options",
    "jobs.process.BaseProcess",
    "jobs.process.checked",
    "jobs.process.disk_check",
    "toolkit.encode.leftovers",
    "jobs.process.model_files",
    "jobs.process.room_check",
    "jobs.process.start",
    "jobs.run_report",
    "jobs.process.training_check",
    "jobs.process.training_checked",
    "jobs.status",
    "jobs.summary",
    "run",
    "toolkit.cards",
    "toolkit.choice",
    "toolkit.compute.attention_choices",
    "toolkit.compute.choices",
    "toolkit.compute.machine",
    "toolkit.config",
    "toolkit.config_modules",
    "toolkit.data.needs",
    "toolkit.data.scan",
    "toolkit.errors",
    "toolkit.extension",
    "toolkit.files",
    "toolkit.adapters.choices",
    "toolkit.networks.choices",
    "toolkit.networks.settings",
    "toolkit.objectives.choices",
    "toolkit.optimizers.choices",
    "toolkit.optimizers.params",
    "toolkit.optimizers.row",
    "toolkit.optimizers.schedule_choices",
    "toolkit.optimizers.schedule_params",
    "toolkit.output",
    "toolkit.parallel",
    "toolkit.plan",
    "toolkit.quantize.qtypes",
    "toolkit.runtime",
    "toolkit.section",
    "toolkit.train.finished",
    "toolkit.train.resume",
    "toolkit.train.run_facts",
    "toolkit.train.tasks.sample_needs",
    "ui.server",
)
# Parts of a run that are at work only while torch is.
ANSWERS_LATER = (
    "toolkit.parallel.deferred",
    "toolkit.parallel.shards",
    "toolkit.parallel.token_exchange",
    "toolkit.plan.out_of_memory",
    "toolkit.runtime.devices",
    "toolkit.runtime.progress",
)
HEAVY = {"accelerate", "diffusers", "numpy", "optimum", "peft", "safetensors", "torch", "transformers"}

UNPICKLERS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}

PRODUCT = "flux2-trainer"
# Where the name of a model family is a promise to users: the properties `is_flux2` and `is_flux`, and old spellings of
# `arch`.
MAY_NAME_A_FAMILY = {"toolkit/config/model.py", "toolkit/models/known_names.py"}
FAMILY = re.compile(r"flux_?[12]|is_flux\b|[\"']flux[\"']|flux_(kontext|dev|schnell)", re.IGNORECASE)


@dataclass(frozen=True)
class Import:
    """An import statement.

    Attributes:
        module: what is imported, as a module of ours where it is one.
        line: where.
        is_eager: it is carried out when the importing module is.
    """

    module: str
    line: int
    is_eager: bool


def python_files() -> list[Path]:
    found: list[Path] = []
    for place in CODE:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, Path]:
    return {name_of(path): path for path in python_files()}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def imports_of(name: str) -> tuple[Import, ...]:
    path = modules()[name]
    return tuple(_imports(tree_of(path), name if path.name == "__init__.py" else name.rpartition(".")[0], True))


def _imports(node: ast.AST, package: str, is_eager: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, is_eager)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                above = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join([*above, base]) if base else ".".join(above)
            for alias in child.names:
                inner = f"{base}.{alias.name}"
                yield Import(inner if inner in modules() else base, child.lineno, is_eager)
        else:
            is_lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(child)
            yield from _imports(child, package, is_eager and not is_lazy)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def floor_of(name: str) -> int | None:
    """The floor on which a module stands, by the longest name in FLOORS that it begins with."""
    best, found = "", None
    for number, names in enumerate(FLOORS):
        for known in names:
            if len(known) > len(best) and (name == known or name.startswith(f"{known}.")):
                best, found = known, number
    return None if best == "toolkit" and name != "toolkit" else found


def loaded_with(name: str) -> dict[str, str]:
    """Everything that importing a module imports, each with the module that does."""
    found: dict[str, str] = {}
    waiting = [(name, "")]
    while waiting:
        module, importer = waiting.pop()
        parents = [module.rpartition(".")[0]] if "." in module else []
        if module in found:
            continue
        found[module] = importer
        eager = [entry.module for entry in imports_of(module) if entry.is_eager] if module in modules() else []
        waiting += [(other, module) for other in [*eager, *parents]]
    return found


def test_every_module_has_a_floor() -> None:
    homeless = [name for name in modules() if floor_of(name) is None]
    assert not homeless, f"say in FLOORS where these stand: {homeless}"


def test_imports_go_down_or_stay_on_their_floor() -> None:
    wrong = []
    for name in modules():
        for entry in imports_of(name):
            if entry.module in modules():
                here, there = floor_of(name), floor_of(entry.module)
                if here is not None and there is not None and there > here:
                    wrong.append(f"{name}:{entry.line} imports {entry.module}")
    assert not wrong, "\n".join(wrong)


def test_the_toolkit_meets_extensions_only_through_the_registry() -> None:
    wrong = [
        f"{name}:{entry.line} imports {entry.module}"
        for name in modules()
        if name.split(".")[0] in ("toolkit", "jobs", "run", "flux_train_ui", "run_modal", "ui")
        for entry in imports_of(name)
        if entry.module.split(".")[0] in ("extensions", "extensions_built_in")
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_make_no_circle() -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for entry in imports_of(name):
            if entry.module in modules():
                walk(entry.module, (*path, name))
        done.add(name)

    for name in modules():
        walk(name, ())


def test_what_must_answer_at_once_loads_no_model_library() -> None:
    cards = [name for name in modules() if name.endswith(".card")]
    quick = [name for name in modules() if any(f"{name}.".startswith(f"{known}.") for known in ANSWERS_AT_ONCE)]
    assert set(ANSWERS_AT_ONCE) | set(ANSWERS_LATER) <= set(modules())
    assert cards
    wrong = []
    for name in {*quick, *cards} - {*ANSWERS_LATER}:
        loaded = loaded_with(name)
        wrong += [
            f"{name} loads {module} through {by}" for module, by in loaded.items() if module.split(".")[0] in HEAVY
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("arguments", [["--help"], ["--list-models"], ["--version"], ["--status", "config"]])
def test_the_command_line_answers_without_torch(arguments: list[str]) -> None:
    script = (
        "import sys, run\n"
        "try:\n    code = run.main(sys.argv[1:])\n"
        "except SystemExit as end:\n    code = end.code\n"
        f"print('LOADED', *sorted({HEAVY!r} & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("LOADED")


def test_only_the_model_folders_know_a_family() -> None:
    wrong = []
    for name, path in modules().items():
        place = path.relative_to(ROOT).as_posix()
        if name.split(".")[0] in ("toolkit", "jobs") and place not in MAY_NAME_A_FAMILY:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if FAMILY.search(line.replace(PRODUCT, "")):
                    wrong.append(f"{place}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    wrong = [f"{path.relative_to(ROOT)}: {length} lines" for path, length in lengths.items() if length > MAX_LINES]
    assert not wrong, "\n".join(wrong)


def test_no_file_knows_much_of_the_rest() -> None:
    counts = {name: len({entry.module for entry in imports_of(name)} & set(modules())) for name in modules()}
    wrong = [f"{name}: {count} imports" for name, count in counts.items() if count > MAX_IMPORTS]
    assert not wrong, "\n".join(wrong)


def test_no_folder_holds_a_second_idea() -> None:
    counts = Counter(path.parent for path in python_files() if path.name != "__init__.py")
    wrong = [f"{path.relative_to(ROOT)}: {count} modules" for path, count in counts.items() if count > MAX_MODULES]
    assert not wrong, "\n".join(wrong)


def test_no_constructor_takes_many_arguments() -> None:
    counts = {name: num_arguments(node) for name, node in classes() if not is_record(node)}
    wrong = [f"{name}: {count} arguments" for name, count in counts.items() if count > MAX_ARGUMENTS]
    assert not wrong, "pass values that travel together as one:\n" + "\n".join(wrong)


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for path in python_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def num_arguments(node: ast.ClassDef) -> int:
    """What a caller passes to make one: the arguments of its own `__init__`, or the fields of a dataclass."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and child.name == "__init__":
            given = child.args
            return len([*given.posonlyargs, *given.args, *given.kwonlyargs]) - 1
    return sum(isinstance(child, ast.AnnAssign) for child in node.body) if is_dataclass(node) else 0


def is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list)


def is_record(node: ast.ClassDef) -> bool:
    """Whether it is a dataclass that holds facts and does nothing: what methods it has return what the facts say."""
    methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
    return is_dataclass(node) and not any(child.name in ("run", "__call__") for child in methods)


def test_every_module_says_what_it_is_for() -> None:
    wrong = [str(path.relative_to(ROOT)) for path in python_files() if not ast.get_docstring(tree_of(path))]
    assert not wrong


def test_nothing_runs_code_that_is_hidden_in_data() -> None:
    wrong = []
    for path in python_files():
        for node in ast.walk(tree_of(path)):
            if what := _runs_data(node):
                wrong.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {what}")
    assert not wrong, "\n".join(wrong)


def _runs_data(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        return next((name for name in names if name.split(".")[0] in UNPICKLERS), None)
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    unsafe = ("eval", "exec", "compile", "os.system", "os.popen", "torch.load", "torch.jit.load", "joblib.load")
    if called in unsafe or re.fullmatch(r"yaml\.(?!safe_)(\w+_)?load(_all)?", called):
        return called
    for keyword in node.keywords:
        if keyword.arg in ("shell", "trust_remote_code", "allow_pickle") and ast.unparse(keyword.value) != "False":
            return f"{called}({keyword.arg}=...)"
    return None


def test_model_libraries_never_run_code_of_a_model_folder() -> None:
    silent = []
    for path in python_files():
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call) or not re.fullmatch(
                r"Auto[A-Z]\w+\.from_pretrained", ast.unparse(node.func)
            ):
                continue
            if not any(keyword.arg == "trust_remote_code" for keyword in node.keywords):  # left out, it asks the user
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}: say trust_remote_code=False")
    assert not silent, "\n".join(silent)
