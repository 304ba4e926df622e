"""What a stage frees is really free: measured in a process of its own, with a model that is large enough to see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import json, sys
import psutil, torch
from torch import nn
from tests.tiny import tiny_config
from toolkit.models.base_model import BaseModel
from toolkit.weights.recipe import Built

def resident():
    return psutil.Process().memory_info().rss

def build():
    # Pieces of very different sizes, as real models have: these end up in glibc's heap, between others.
    with torch.device("meta"):
        blocks = nn.ModuleList(nn.Sequential(nn.Linear(700, 900), nn.Linear(900, 40)) for _ in range(120))
    model = nn.ModuleDict({"blocks": blocks}).requires_grad_(False).to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.fill_(1)  # memory that nobody has written to does not count
    return model

class Small(BaseModel, is_abstract=True):
    arch = "small"

device, found = torch.device(sys.argv[1]), {}
for how in ("plain", "offloaded"):
    model = Small(tiny_config(layer_offloading=how == "offloaded"), device=device, dtype=torch.float32)
    sizes = [resident()]
    for component in ("text_encoder", "transformer"):
        setattr(model, component, model.load_recipe(component, Built(build()), dtype=torch.float32))
        sizes.append(resident())
        model.free(component)
        sizes.append(resident())
    found[how] = {"sizes": sizes, "gpu": torch.cuda.memory_allocated() if device.type == "cuda" else 0}
print(json.dumps(found))
"""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_freed_component_leaves_nothing_in_memory(device: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, device], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for how, found in json.loads(done.stdout.splitlines()[-1]).items():
        before, first, after_first, second, after_second = found["sizes"]
        assert found["gpu"] == 0, how
        if device == "cpu":
            assert min(first, second) - before > 300e6, f"{how}: large enough to see"
            assert max(after_first, after_second) - before < 30e6, how
