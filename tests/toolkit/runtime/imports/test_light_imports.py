"""toolkit.runtime.imports.light_imports, toolkit.runtime.imports.without_compiler"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.tiny import losses, run_job, write_dataset, write_job
from toolkit.runtime.imports.light_imports import LATE, LateName, _Packages

ROOT = Path(__file__).resolve().parents[4]
HEAVY = (*LATE, "triton", "torch._inductor", "sympy")
# A cached run, what it has loaded, and then the libraries themselves.
SCRIPT = f"""
import sys, run
assert run.main(sys.argv[1:]) == 0
print('LOADED', *sorted({set(HEAVY)!r} & set(sys.modules)))
import diffusers.loaders.lora_base, diffusers.models.modeling_utils, diffusers.hooks.first_block_cache
import accelerate, peft.tuners.tuners_utils, torch, transformers
kinds = diffusers.loaders.lora_base
config = peft.LoraConfig(r=1, lora_alpha=8, target_modules=['0'])
model = peft.inject_adapter_in_model(config, torch.nn.Sequential(torch.nn.Linear(2, 2)))
layer = model[0]
assert isinstance(layer, kinds.BaseTunerLayer) and not isinstance(3, kinds.BaseTunerLayer)
assert kinds.PreTrainedModel is transformers.PreTrainedModel
assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)) == 2
assert torch._dynamo.config.recompile_limit > 0
from diffusers.utils import peft_utils
peft_utils.scale_lora_layers(model, 0.5)
assert layer.scaling['default'] == 4
peft_utils.unscale_lora_layers(model, 0.5)
assert layer.scaling['default'] == 8
"""


def test_a_cached_run_loads_no_library_that_it_does_not_need_and_learns_the_same(tmp_path: Path) -> None:
    # Six seconds: the only run that starts with nothing loaded.
    cached = {"cache_latents_to_disk": True, "cache_text_embeddings": True}
    dataset = {"folder_path": str(write_dataset(tmp_path / "pictures")), "resolution": 32, **cached}
    model = {"layer_offloading": True, "layer_offloading_transformer_percent": 0.5}
    job = write_job(tmp_path, train={"steps": 2}, datasets=[dataset], model=model)
    assert run_job(job).status == "done"
    first = losses(tmp_path / "output" / "job")
    (tmp_path / "output").rename(tmp_path / "first")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(job)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "LOADED\n" in done.stdout
    assert "all texts were cached" in done.stderr
    assert losses(tmp_path / "output" / "job") == first


def test_whoever_loads_transformers_first_can_still_load_the_pipelines() -> None:
    """Three seconds. What transformers imports on behalf of diffusers must not be a stand-in for itself."""
    script = (
        "import torch, transformers\n"
        "from toolkit.runtime.imports.light_imports import install\n"
        "install()\n"
        "from diffusers import Flux2KleinPipeline\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_late_name_stands_for_what_it_names() -> None:
    name = LateName("json.decoder", "JSONDecodeError")
    assert name.real is json.JSONDecodeError
    assert isinstance(name("message", "text", 0), json.JSONDecodeError)
    assert isinstance(json.JSONDecodeError("message", "text", 0), name)  # type: ignore[arg-type]
    assert issubclass(json.JSONDecodeError, name)  # type: ignore[arg-type]
    assert not isinstance(3, name)  # type: ignore[arg-type]
    assert (name | None) == (json.JSONDecodeError | None)
    assert (int | name) == (int | json.JSONDecodeError)
    kind = type("Kind", name.__mro_entries__(()), {})
    assert issubclass(kind, json.JSONDecodeError)
    with pytest.raises(AttributeError):
        _ = name.__annotations__


def test_nothing_is_an_instance_of_what_is_not_loaded() -> None:
    name = LateName("no_such_library.at_all", "Kind")
    assert not isinstance(3, name)  # type: ignore[arg-type]
    assert not issubclass(int, name)  # type: ignore[arg-type]
    assert "no_such_library" not in sys.modules


def test_packages_are_found_in_the_distributions_that_have_them() -> None:
    wanted = packages_distributions()
    found = _Packages()
    for package in ("yaml", "torch", "PIL", "huggingface_hub", "typing_extensions", "optimum"):
        assert sorted(found.get(package, [])) == sorted(set(wanted.get(package, [])))
    assert "no_such_package" not in found
    assert set(found) == set(wanted)
