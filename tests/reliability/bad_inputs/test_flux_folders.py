"""FLUX.1's second pair of text encoder and tokenizer, and its assistant LoRA: damaged, of another kind, or a trap."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import run
from tests.reliability.bad_inputs.battery import expect_error, expect_exit, expect_result
from tests.reliability.bad_inputs.test_tensor_files import FILES, GOOD, JUNK, Trap
from tests.tiny import write_job
from tests.tiny_flux import make_tiny_flux, tiny_flux
from toolkit.weights.tensor_files import read_tensors

KIND = "model folders of flux.1"
CPU_LIMIT_S = 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny FLUX.1 dev in diffusers layout."""
    folder = tmp_path_factory.mktemp("flux")
    make_tiny_flux(folder)
    return folder


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage; what is not damaged is linked."""
    shutil.copytree(whole, tmp_path / "model", copy_function=os.link)
    return tmp_path / "model"


def put(path: Path, content: bytes) -> None:
    """In place of a file that is linked to."""
    path.unlink()
    path.write_bytes(content)


def section_of(folder: Path, **options: str) -> dict[str, Any]:
    return {"name_or_path": str(folder), "arch": "flux", **options}


def check_of(folder: Path, **options: str) -> Callable[[], None]:
    def check() -> None:
        model = tiny_flux(section_of(folder, **options))
        model.check_files()
        model.check_access()

    return check


# No JSON object at all; what a component's own class takes amiss follows. A transformer or VAE whose configuration
# says nothing of its own is read by the shapes of its tensors.
SHAPELESS = [content for name, content in JUNK.items() if name not in ("wrong types", "negative", "zero")]
CONFIGURED: dict[str, list[bytes]] = {
    "transformer": [
        b'{"num_layers": "x"}',
        b'{"num_attention_heads": [], "axes_dims_rope": "x"}',
        b'{"num_attention_heads": -1}',
        b'{"num_attention_heads": 0, "attention_head_dim": 0}',
        b'{"num_single_layers": -1000000}',
    ],
    "vae": [
        b'{"block_out_channels": [-1]}',
        b'{"block_out_channels": "x"}',
        b'{"norm_num_groups": 0}',
        b'{"latent_channels": null}',
    ],
    "text_encoder": [
        b'{"model_type": "clip_text_model", "hidden_size": -1, "num_attention_heads": 0}',
        b'{"model_type": "clip_text_model", "num_attention_heads": 0}',
        b'{"model_type": "clip_text_model", "hidden_size": "x", "vocab_size": null}',
        b'{"model_type": "clip", "text_config": 3}',
        JUNK["wrong types"],
    ],
    "text_encoder_2": [
        b'{"model_type": "t5", "d_model": "x", "num_layers": [], "vocab_size": null}',
        b'{"model_type": "t5", "d_model": -1, "num_heads": -4, "num_layers": 2}',
        b'{"model_type": "t5", "d_model": 32, "num_heads": 0, "num_layers": 2}',
        b'{"model_type": "t5", "num_layers": -1000000, "d_model": 32, "num_heads": 4}',
        b'{"model_type": "t5", "feed_forward_proj": "gated-nothing"}',
        JUNK["negative"],
    ],
    "tokenizer": list(JUNK.values()),
    "tokenizer_2": list(JUNK.values()),
}


@pytest.mark.parametrize("component", CONFIGURED)
def test_a_damaged_configuration_is_named_by_the_check(component: str, model: Path) -> None:
    file = model / component / ("tokenizer.json" if component.startswith("tokenizer") else "config.json")
    for content in (*SHAPELESS, *CONFIGURED[component]):
        put(file, content)
        expect_error(KIND, check_of(model), str(model / component), cpu_limit_s=CPU_LIMIT_S)


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "text_encoder_2"])
def test_damaged_weights_are_named_by_the_check(component: str, model: Path) -> None:
    (path,) = (model / component).glob("*.safetensors")
    for content in (*FILES.values(), GOOD):
        put(path, content)
        expect_error(KIND, check_of(model), str(path.parent), cpu_limit_s=CPU_LIMIT_S)


def test_encoders_that_changed_places_are_named(model: Path) -> None:
    first, second = model / "text_encoder", model / "text_encoder_2"
    first.rename(model / "aside")
    second.rename(first)
    (model / "aside").rename(second)
    expect_error(KIND, check_of(model), str(first), "`t5`", "`clip_text_model`", "te_name_or_path")


@pytest.mark.parametrize("component", ["text_encoder_2", "tokenizer_2"])
def test_half_of_the_text_encoders_is_not_enough(component: str, model: Path) -> None:
    shutil.rmtree(model / component)
    expect_error(KIND, check_of(model), component)


def test_a_folder_of_text_encoders_that_has_none_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for place in (tmp_path / "nothing", tmp_path / "absent", model / "text_encoder" / "model.safetensors"):
        expect_error(KIND, check_of(model, te_name_or_path=str(place)), str(place), "te_name_or_path")


def test_code_in_a_folder_of_flux_is_neither_run_nor_asked_about(model: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    traps = {
        "text_encoder/config.json": {"model_type": "trap", "auto_map": {"AutoConfig": "trap.Trap"}},
        "tokenizer_2/tokenizer_config.json": {
            "tokenizer_class": "Trap",
            "auto_map": {"AutoTokenizer": ["trap.Trap", None]},
        },
    }
    for name, content in traps.items():
        before = (model / name).read_bytes()
        put(model / name, json.dumps(content).encode())
        (model / name).with_name("trap.py").write_text(f"open({str(canary)!r}, 'w')\nclass Trap: pass\n")
        expect_error("pickles", check_of(model), str((model / name).parent), cpu_limit_s=CPU_LIMIT_S)
        put(model / name, before)
    assert not canary.exists()


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "text_encoder_2"])
def test_a_folder_of_pickles_is_refused(component: str, model: Path, tmp_path: Path) -> None:
    (path,) = (model / component).glob("*.safetensors")
    path.unlink()
    torch.save(Trap(tmp_path / "canary"), path.with_suffix(".bin"))
    expect_error("pickles", check_of(model), "pickle file", ".safetensors", cpu_limit_s=CPU_LIMIT_S)
    assert not (tmp_path / "canary").exists()


# The assistant


def assistant(folder: Path, content: bytes) -> dict[str, str]:
    (folder / "assistant.safetensors").write_bytes(content)
    return {"assistant_lora_path": str(folder / "assistant.safetensors")}


def test_a_damaged_assistant_is_named_by_the_check(model: Path, tmp_path: Path) -> None:
    for content in FILES.values():
        options = assistant(tmp_path, content)
        expect_error("assistant loras", check_of(model, **options), "assistant.safetensors", "assistant_lora_path")


def test_an_assistant_of_another_model_is_named_by_the_check(model: Path, tmp_path: Path) -> None:
    layer = "diffusion_model.double_blocks.0.img_attn.qkv"
    a, b, path = f"{layer}.lora_A.weight", f"{layer}.lora_B.weight", tmp_path / "assistant.safetensors"
    options = {"assistant_lora_path": str(path)}
    others: dict[str, dict[str, torch.Tensor]] = {
        "not LoRA keys of this model": {"unet.down.0.lora_A.weight": torch.ones(2, 2)},
        "incomplete": {a: torch.ones(2, 64)},
        "NaN": {a: torch.full((2, 64), float("nan")), b: torch.ones(192, 2)},
    }
    for words, tensors in others.items():
        save_file(tensors, path)
        expect_error("assistant loras", check_of(model, **options), str(path), "assistant_lora_path", words)
    save_file({a: torch.ones(2, 3072), b: torch.ones(9216, 2)}, path)  # of the same family, larger
    expect_result("assistant loras", check_of(model, **options))
    load = lambda: tiny_flux(section_of(model, **options), "transformer")  # noqa: E731
    expect_error("assistant loras", load, str(path), "made for another model")


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".json"])
def test_no_assistant_runs_what_a_pickle_says(
    suffix: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap = tmp_path / f"trap{suffix}"
    torch.save(Trap(tmp_path / "canary"), trap)
    section = section_of(model, assistant_lora_path=str(trap))
    job = write_job(tmp_path, model=section)
    assert expect_exit("pickles", lambda: run.main([str(job), "--check"]), cpu_limit_s=CPU_LIMIT_S) == 2
    shown = capsys.readouterr()
    assert trap.name in shown.err
    assert "Traceback" not in shown.out + shown.err
    assert not (tmp_path / "canary").exists()


def test_a_good_folder_is_good(model: Path) -> None:
    expect_result(KIND, check_of(model), cpu_limit_s=CPU_LIMIT_S)
    assert read_tensors(model / "vae" / "diffusion_pytorch_model.safetensors")
