"""The device and its memory from the driver's own program, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ADA = "GPU-7d1c4a0e-1f0b-9a53-6b0e-31f5a2f5c9d4, NVIDIA GeForce RTX 4090, [N/A], 24564, 349, 23812"
TWIN = "GPU-0b7f6e55-93c4-2f0e-88aa-5f2b7a10c3de, NVIDIA GeForce RTX 4090, [N/A], 24564, 349, 1024"
OLD = "GPU-55aa6e55-93c4-2f0e-88aa-5f2b7a10c3de, Tesla T4, [N/A], 15360, 443, 14000"
SLICED = "GPU-11aa6e55-93c4-2f0e-88aa-5f2b7a10c3de, NVIDIA H100 80GB HBM3, Enabled, 81559, 551, 80000"
MIB = 1 << 20
SCRIPT = """
import json, sys
from toolkit.errors import UserError
from toolkit.plan.machine import this_machine
from toolkit.runtime.device_probe import find_device, probe_cards
try:
    device = find_device(sys.argv[1])
    machine = this_machine(device)
    print(json.dumps([device, machine.name, machine.gpu_bytes, machine.free_gpu_bytes]))
except UserError as error:
    print(json.dumps(str(error)))
except ImportError as error:
    print(json.dumps("wants torch"))
"""


def write_driver(folder: Path, *rows: dict[str, str], exit_code: int = 0) -> Path:
    """An `nvidia-smi` that says of each card what is asked for, and nothing if it does not know a word of it."""
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nrows = {rows!r}\n"
        "asked = next(it for it in sys.argv if it.startswith('--query-gpu=')).partition('=')[2].split(',')\n"
        "if any(name not in row for row in rows for name in asked):\n    sys.exit(2)\n"
        f"print(*(', '.join(row[name] for name in asked) for row in rows), sep='\\n')\nsys.exit({exit_code})\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


def _row(index: int, card: str) -> dict[str, str]:
    names = ("uuid", "name", "mig.mode.current", "memory.total", "memory.reserved", "memory.free")
    if "," not in card:
        return {"index": str(index), "name": card}
    row = dict(zip(names, map(str.strip, card.split(",")), strict=True))
    others = {"memory.used": "0", "utilization.gpu": "0", "temperature.gpu": "31", "power.draw": "69.58"}
    return {"index": str(index), **row, **others}


def _machine(folder: Path, *cards: str, build: str = "'12.8'", exit_code: int = 0) -> dict[str, str]:
    """The environment of a machine whose `nvidia-smi` lists these cards, with a torch that cannot be imported."""
    environment = card_machine(folder, *cards, build=build, exit_code=exit_code)
    (folder / "torch" / "__init__.py").write_text("raise ImportError('torch')\n", encoding="utf-8")
    return environment


def card_machine(
    folder: Path, *cards: str, build: str = "'12.8'", exit_code: int = 0, version: str = "9.0"
) -> dict[str, str]:
    """The environment of a machine whose `nvidia-smi` lists these cards, with a torch that says it knows CUDA."""
    write_driver(folder, *(_row(index, card) for index, card in enumerate(cards)), exit_code=exit_code)
    (folder / "torch").mkdir(exist_ok=True)
    (folder / "torch" / "version.py").write_text(f"cuda: str | None = {build}\nhip = None\n", encoding="utf-8")
    (folder / "torch-9.0.dist-info").mkdir(exist_ok=True)
    (folder / "torch-9.0.dist-info" / "METADATA").write_text(f"Name: torch\nVersion: {version}\n", encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
    return kept | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def _found(environment: dict[str, str], device: str = "auto") -> object:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, device], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_card_is_found_with_the_memory_that_programs_can_use(tmp_path: Path) -> None:
    environment = _machine(tmp_path, ADA, TWIN)
    assert _found(environment) == ["cuda", "NVIDIA GeForce RTX 4090", (24564 - 349) * MIB, 23812 * MIB]
    assert _found(environment, "cuda:1") == ["cuda:1", "NVIDIA GeForce RTX 4090", (24564 - 349) * MIB, 1024 * MIB]
    assert _found(environment, "cuda:2") == (
        "device: cuda:2 is not available; torch sees 2 CUDA devices. `device: auto` uses the best available device."
    )


@pytest.mark.parametrize(
    ("shown", "free_mib"),
    [("1,0", 1024), ("GPU-0b7f", 1024), ("0", 23812), ("0,7", 23812), ("", None), ("-1", None), ("0,0", None)],
)
def test_cards_that_cuda_does_not_show_are_not_used(tmp_path: Path, shown: str, free_mib: int | None) -> None:
    found = _found(_machine(tmp_path, ADA, TWIN) | {"CUDA_VISIBLE_DEVICES": shown})
    assert isinstance(found, list)
    assert found[0] == ("cpu" if free_mib is None else "cuda")
    assert found[3] == (None if free_mib is None else free_mib * MIB)


def test_torch_is_asked_where_the_driver_alone_cannot_tell(tmp_path: Path) -> None:
    machines = {"sliced": [SLICED], "mixed": [ADA, OLD], "odd": ["an old driver"]}
    for name, cards in machines.items():
        assert _found(_machine(tmp_path, *cards)) == "wants torch", name
    assert _found(_machine(tmp_path, ADA, exit_code=9)) == "wants torch"
    mixed = _machine(tmp_path, ADA, OLD) | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert _found(mixed, "cuda:1") == ["cuda:1", "Tesla T4", (15360 - 443) * MIB, 14000 * MIB]


def test_a_torch_without_cuda_finds_no_card(tmp_path: Path) -> None:
    found = _found(_machine(tmp_path, ADA, build="None"))
    assert isinstance(found, list) and found[0] == "cpu"
