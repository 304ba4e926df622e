"""toolkit.runtime.threads"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.runtime import threads
from toolkit.runtime.threads import SPINS, share_cores

ROOT = Path(__file__).resolve().parents[3]
# Prints what libgomp will find, at the moment when torch is about to be imported.
BEFORE_TORCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("spins", os.environ.get("GOMP_SPINCOUNT"))
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""
FRONT_DOORS = {
    "run.py": "import run; run.main([{job!r}, '--set', 'training_folder={folder}'])",
    "a proof": "import scripts.flux2_tiny.proof",
    "the making of the tiny model": "import scripts.make_flux2_tiny",
    "the tests": "import tests.conftest, torch",
}


@pytest.fixture
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "GPU_DEVICES", ())


@pytest.mark.parametrize("door", FRONT_DOORS)
def test_waiting_threads_are_configured_before_torch_is_imported(door: str, tmp_path: Path) -> None:
    job = ROOT / "config" / "examples" / "train_lora_flux2_tiny.yaml"
    source = BEFORE_TORCH + FRONT_DOORS[door].format(job=str(job), folder=tmp_path)
    theirs = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in theirs}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(tmp_path)}  # whatever card this machine has
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1:] == [f"spins {SPINS}"], done.stdout + done.stderr


@pytest.mark.usefixtures("_no_gpu")
@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_the_user_has_set_is_kept(name: str) -> None:
    environment = {name: "17"}
    share_cores(environment)
    assert environment == {name: "17"}


@pytest.mark.usefixtures("_no_gpu")
def test_a_machine_without_a_gpu_shares_its_cores() -> None:
    environment: dict[str, str] = {}
    share_cores(environment)
    assert environment == {"GOMP_SPINCOUNT": SPINS}


@pytest.mark.parametrize(("visible", "is_set"), [(None, False), ("0", False), ("", True), ("-1", True)])
def test_a_machine_with_a_gpu_is_left_alone_unless_the_gpu_is_hidden(
    visible: str | None, is_set: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(threads, "GPU_DEVICES", (str(tmp_path),))
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    share_cores(environment)
    assert ("GOMP_SPINCOUNT" in environment) == is_set
