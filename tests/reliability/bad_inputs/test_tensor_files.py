"""Safetensors files, LoRA files and model folders of every sad kind, and pickles in every place that takes a file."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

import run
from extensions_built_in.diffusion_models.flux2.loading import transformer_recipe, vae_recipe
from extensions_built_in.diffusion_models.flux2.prompt_encoding import check_template, load_tokenizer
from extensions_built_in.diffusion_models.flux2.text_encoder import text_recipe, used_tensors
from tests.reliability.bad_inputs.battery import attempt, expect_error, expect_exit, expect_result
from tests.tiny import TINY, tiny_model, write_job
from toolkit.errors import UserError
from toolkit.lora.__main__ import main as lora_command
from toolkit.lora.files import read_lora_file
from toolkit.weights.layouts import find_component
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import converted_shapes, unchanged
from toolkit.weights.tensor_files import read_metadata, read_tensors
from toolkit.weights.tensor_index import index_tensors

Header = dict[str, Any]


def entry(dtype: str = "F32", shape: tuple[int, ...] = (2,), at: tuple[int, int] = (0, 8)) -> Header:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(at)}


def file_of(header: object, data: bytes = bytes(8), *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


GOOD = file_of({"a": entry()})
FILES: dict[str, bytes] = {
    "zero bytes": b"",
    "seven bytes": b"1234567",
    "length only": struct.pack("<Q", 100),
    "length of 2^63": file_of({}, length=2**63),
    "length of 2^64 - 1": file_of({}, length=2**64 - 1),
    "length of 100 MB": file_of({}, length=10**8),
    "length beyond the file": file_of({"a": entry()}, length=10_000),
    "length of 0": file_of(b""),
    "no json": file_of(b"hello world"),
    "list": file_of(b"[]"),
    "number": file_of(b"3"),
    "nested too deeply": file_of(b"[" * 100_000),
    "not utf-8": file_of(b'{"\xff": 1}'),
    "entry that is null": file_of({"a": None}),
    "entry without shape": file_of({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "metadata that is a list": file_of({"__metadata__": [1], "a": entry()}),
    "metadata with a number": file_of({"__metadata__": {"a": 1}, "a": entry()}),
    "cut in the data": GOOD[:-3],
    "bytes after the end": GOOD + b"more",
    "overlapping": file_of({"a": entry(), "b": entry(at=(4, 12))}, bytes(12)),
    "gap": file_of({"a": entry(), "b": entry(at=(12, 20))}, bytes(20)),
    "out of range": file_of({"a": entry(at=(0, 80))}),
    "before the beginning": file_of({"a": entry(at=(-8, 0))}),
    "end before begin": file_of({"a": entry(at=(8, 0))}),
    "offset of 2^63": file_of({"a": entry(at=(2**63, 2**63 + 8))}),
    "shape that does not fit": file_of({"a": entry(shape=(3,))}),
    "negative shape": file_of({"a": entry(shape=(-2,))}),
    "shape beyond all numbers": file_of({"a": entry(shape=(2**62, 4))}),
    "empty, but 2^63 long": file_of({"a": entry(shape=(0, 2**63), at=(0, 0))}, b""),
    "unknown format": file_of({"a": entry("F33")}),
    "zip": b"PK\x03\x04" + bytes(100),
    "pickle": pickle.dumps({"a": 1}),
    "text": b"version https://git-lfs.github.com/spec/v1\n",
    "gguf": b"GGUF" + bytes(60),
}
READERS: dict[str, Callable[[Path], object]] = {
    "whole": read_tensors,
    "metadata": read_metadata,
    "index": lambda path: converted_shapes(PlainWeights(index_tensors([path])), unchanged),
    "lora": read_lora_file,
    "text encoder": lambda path: used_tensors(index_tensors([path]), 4),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_by_every_reader(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(FILES[name])
    for reader, read in READERS.items():
        if name.startswith("empty, but") and reader in ("metadata", "text encoder"):
            continue  # which look at no shape
        expect_error("safetensors", partial(read, path), str(path), "damaged")


def test_places_that_are_no_file_are_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    for name in ("pipe", "folder", "loop", "absent"):
        path = tmp_path / f"{name}.safetensors"
        for read in READERS.values():
            expect_error("safetensors", partial(read, path), str(path), "file")


@pytest.mark.parametrize("dtype", ["F4", "F8_E8M0", "C64", "U64", "F6_E2M3", "F8_E4M3FNUZ"])
def test_uncommon_formats_of_weights_are_refused_by_name(dtype: str, tmp_path: Path) -> None:
    bits = {"F4": 4, "F6_E2M3": 6, "C64": 64, "U64": 64}.get(dtype, 8)
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        file_of(
            {"a": entry(dtype, (64 // bits if 64 % bits == 0 else 32,), (0, 8 if 64 % bits == 0 else 24))},
            bytes(8 if 64 % bits == 0 else 24),
        )
    )
    expect_error("safetensors", lambda: index_tensors([path]), str(path), dtype, "Use the bf16 file")


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_of_a_header_are_read_or_named(seed: int, tmp_path: Path) -> None:
    draw, data = random.Random(seed), bytearray(lora_bytes(tmp_path))
    header = int.from_bytes(data[:8], "little")
    for _ in range(1 + seed % 4):
        data[draw.randrange(8 + header)] ^= 1 << draw.randrange(8)
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    for read in READERS.values():
        outcome = attempt("safetensors with flipped bits", partial(read, path))
        assert not isinstance(outcome, UserError) or str(path) in str(outcome)


# LoRA


def lora_tensors(rank: int = 2) -> dict[str, Tensor]:
    """A LoRA of the tiny model's first attention layer."""
    target = "diffusion_model.double_blocks.0.img_attn.qkv"
    return {f"{target}.lora_A.weight": torch.ones(rank, 192), f"{target}.lora_B.weight": torch.ones(576, rank)}


def lora_bytes(folder: Path) -> bytes:
    path = folder / "good.safetensors"
    save_file(lora_tensors(), path)
    return path.read_bytes()


ARCH = "flux2_tiny"
A, B = lora_tensors()
LAYER = A.removesuffix(".lora_A.weight")


def changed(**tensors: Tensor | None) -> Callable[[], dict[str, Tensor]]:
    """The LoRA with other tensors in the parts A, B or alpha."""

    def make() -> dict[str, Tensor]:
        names = {"a": A, "b": B, "alpha": f"{LAYER}.alpha"}
        state = {**lora_tensors(), **{names[part]: tensor for part, tensor in tensors.items()}}
        return {name: tensor for name, tensor in state.items() if tensor is not None}

    return make


def lokr(*shapes: tuple[int, ...]) -> Callable[[], dict[str, Tensor]]:
    return lambda: {f"{LAYER}.lokr_w{index}": torch.ones(shape) for index, shape in enumerate(shapes, 1)}


LORAS: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "no tensors": (dict, "no tensors"),
    "another model": (lambda: {"unet.down.0.lora_A.weight": torch.ones(2, 2)}, "not LoRA keys of this model"),
    "stable diffusion": (
        lambda: {"lora_unet_down_blocks_0.lora_down.weight": torch.ones(2, 2)},
        "not LoRA keys of this model",
    ),
    "a whole model": (lambda: {"double_blocks.0.img_attn.qkv.weight": torch.ones(2, 2)}, "not LoRA keys of this model"),
    "half of a layer": (changed(b=None), "incomplete"),
    "ranks that differ": (changed(b=torch.ones(576, 3)), "do not fit together"),
    "a vector": (changed(a=torch.ones(192)), "do not fit together"),
    "a convolution": (changed(a=torch.ones(2, 192, 1, 1)), "do not fit together"),
    "alpha of many numbers": (changed(alpha=torch.ones(3)), "must be a single number"),
    "NaN in A": (changed(a=torch.full((2, 192), float("nan"))), "NaN"),
    "infinity in B": (changed(b=torch.full((576, 2), float("inf"))), "NaN"),
    "NaN alpha": (changed(alpha=torch.tensor(float("nan"))), "NaN"),
    "dora": (lambda: {**lora_tensors(), f"{LAYER}.dora_scale": torch.ones(576)}, "DoRA"),
    "loha": (lambda: {f"{LAYER}.hada_{part}": torch.ones(2, 2) for part in ("w1_a", "w1_b", "w2_a", "w2_b")}, "LoHa"),
    "whole weight changes": (lambda: {f"{LAYER}.diff": torch.ones(2, 2)}, "full weight changes"),
    "lokr vectors": (lokr((4,), (4,)), "must be a matrix"),
    "lokr with one factor": (lokr((4, 4)), "incomplete"),
    "lokr bomb": (lokr((2048, 2048), (2048, 2048)), "larger than any model's"),
}


KEPT_AS_THEY_ARE = ("dora", "loha", "whole weight changes")  # by `convert`: no LoRA, but each layer's kind has a place


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_that_cannot_be_used_is_named_with_the_reason(name: str, tmp_path: Path) -> None:
    make, words = LORAS[name]
    path = tmp_path / "x.safetensors"
    save_file(make(), path)
    expect_error("lora files", lambda: read_lora_file(path, arch=ARCH), str(path), words)
    text = expect_error("lora files", lambda: read_lora_file(path), str(path))
    assert words in text or "Choose one with --arch" in text
    output = tmp_path / "out.safetensors"
    is_kept = name in KEPT_AS_THEY_ARE
    assert lora_command(["convert", str(path), "--output", str(output), "--arch", ARCH]) == (0 if is_kept else 2)
    assert output.exists() == is_kept


HEADERS = {
    "no json": "{",
    "list": "[1]",
    "number": "3",
    "nested too deeply": "[" * 100_000,
    "alpha that is a text": '{"lora_alpha": "x"}',
    "alpha that is NaN": '{"lora_alpha": NaN}',
    "pattern list": '{"alpha_pattern": [1]}',
    "pattern that is no regular expression": '{"alpha_pattern": {"[": 1}}',
    "pattern that runs for years": '{"alpha_pattern": {"((a|_|.)+)+$x": 1}}',
    "many wildcards": '{"alpha_pattern": {".*.*.*.*.*.*.*.*x": 1}}',
    "dora": '{"use_dora": true}',
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_lora_header_that_makes_no_sense_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(lora_tensors(), path, metadata={"lora_adapter_metadata": HEADERS[name]})
    expect_error("lora files", lambda: read_lora_file(path), str(path))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.float8_e4m3fn, torch.int8, torch.bool])
def test_a_lora_in_any_number_format_is_read_and_converted_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    path, output = tmp_path / "x.safetensors", tmp_path / "out.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in lora_tensors().items()}, path)
    expect_result("lora files", lambda: read_lora_file(path, arch=ARCH))
    assert lora_command(["convert", str(path), "--output", str(output), "--arch", ARCH]) == 0
    (update,) = read_lora_file(output, arch=ARCH).updates.values()
    assert torch.equal(update.delta(), torch.full((576, 192), 2.0))


def test_a_base_that_is_damaged_is_not_merged_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lora, base, output = (tmp_path / f"{name}.safetensors" for name in ("lora", "base", "out"))
    save_file(lora_tensors(), lora)
    for content in (*FILES.values(), GOOD):
        base.write_bytes(content)
        command = ["merge", str(lora), "--base", str(base), "--output", str(output), "--arch", ARCH]
        assert expect_exit("lora files", partial(lora_command, command)) == 2
        assert "base.safetensors" in capsys.readouterr().err or content == GOOD
        assert not output.exists()
    assert lora_command([*command, "--weight", "nan"]) == 2


# Model folders

JUNK: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"model_type": "qw',
    "list": b"[1]",
    "number": b"3",
    "null": b"null",
    "not utf-8": b"\xff\xfe\x00",
    "nested too deeply": b"[" * 100_000,
    "number of 5000 digits": b'{"hidden_size": ' + b"9" * 5000 + b"}",
    "wrong types": b'{"model_type": "qwen3", "hidden_size": "x", "num_layers": "x", "num_attention_heads": []}',
    "negative": b'{"model_type": "qwen3", "hidden_size": -1, "num_attention_heads": -1, "block_out_channels": [-1]}',
    "zero": b'{"model_type": "qwen3", "num_attention_heads": 0, "attention_head_dim": 0, "norm_num_groups": 0}',
}


def copied(component: str, folder: Path, file: str, content: bytes) -> Path:
    shutil.copytree(TINY / component, folder / component)
    (folder / component / file).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", JUNK)
@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "tokenizer"])
def test_a_damaged_configuration_is_named(component: str, name: str, tmp_path: Path) -> None:
    place = copied(component, tmp_path, "tokenizer.json" if component == "tokenizer" else "config.json", JUNK[name])

    def load() -> object:
        if component == "tokenizer":
            return load_tokenizer(place / component, padding_side="right")
        files = find_component(str(place), component, single_files=("x",), setting="model.name_or_path")
        if component == "text_encoder":
            return text_recipe(files, "qwen3", num_layers=4, hidden_size=None)
        return transformer_recipe(files, arch="flux2_tiny") if component == "transformer" else vae_recipe(files)

    expect_error("model folders", load, str(place / component), cpu_limit_s=10)


@pytest.mark.parametrize("template", ["{{ unclosed", "{% for %}", "", "always the same", "{{ ''.__class__.__mro__ }}"])
def test_a_damaged_chat_template_is_named(template: str, tmp_path: Path) -> None:
    place = copied("tokenizer", tmp_path, "chat_template.jinja", template.encode()) / "tokenizer"
    render = tiny_model().render_prompt

    def load() -> None:
        check_template(load_tokenizer(place, padding_side="right"), render, place)

    expect_error("model folders", load, str(place), "template")


# Code in data


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.canary,)


PATHS: dict[str, dict[str, Any]] = {
    "model": {"model": {"arch": "flux2_tiny", "name_or_path": "TRAP"}},
    "transformer": {"model": {"model_paths": {"transformer": "TRAP"}}},
    "vae": {"model": {"vae_path": "TRAP"}},
    "text encoder": {"model": {"te_name_or_path": "TRAP"}},
    "tokenizer": {"model": {"model_paths": {"tokenizer": "TRAP"}}},
    "lora": {"network": {"pretrained_lora_path": "TRAP"}},
    "dataset": {"datasets": [{"folder_path": "TRAP"}]},
    "reference of a sample": {
        "sample": {"samples": [{"prompt": "a", "ctrl_img": "TRAP"}]},
        "train": {"disable_sampling": False},
    },
}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".pkl", ".safetensors", ".json", ".png"])
@pytest.mark.parametrize("where", PATHS)
def test_no_path_of_a_job_runs_what_a_pickle_says(
    where: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary, trap = tmp_path / "canary", tmp_path / f"trap{suffix}"
    torch.save(Trap(canary), trap)
    path = write_job(tmp_path, **PATHS[where])
    path.write_text(path.read_text().replace("TRAP", str(trap)))
    code = expect_exit("pickles", lambda: run.main([str(path), "--check"]), cpu_limit_s=5)
    assert code == 2
    shown = capsys.readouterr()
    assert trap.name in shown.err
    assert "Traceback" not in shown.out + shown.err
    assert not canary.exists()


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_a_model_folder_of_pickles_is_refused(component: str, suffix: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    shutil.copytree(TINY, tmp_path / "model")
    for path in (tmp_path / "model" / component).glob("*.safetensors"):
        path.unlink()
    torch.save(Trap(canary), tmp_path / "model" / component / f"pytorch_model{suffix}")
    model = tiny_model(name_or_path=tmp_path / "model")
    expect_error("pickles", model.check_files, "pickle file", ".safetensors", cpu_limit_s=5)
    assert not canary.exists()


def test_code_in_a_model_folder_is_neither_run_nor_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    monkeypatch.setattr("builtins.input", lambda _="": "y")  # whoever asks, gets a yes
    code = f"from pathlib import Path\nPath({str(canary)!r}).touch()\nclass Trap: pass\n"
    for component, file, content in (
        (
            "tokenizer",
            "tokenizer_config.json",
            {"tokenizer_class": "Trap", "auto_map": {"AutoTokenizer": ["trap.Trap", None]}},
        ),
        ("text_encoder", "config.json", {"model_type": "trap", "auto_map": {"AutoConfig": "trap.Trap"}}),
    ):
        place = copied(component, tmp_path, file, json.dumps(content).encode()) / component
        (place / "trap.py").write_text(code)
    expect_error("pickles", lambda: load_tokenizer(tmp_path / "tokenizer", padding_side="right"), "tokenizer")
    encoder = find_component(str(tmp_path), "text_encoder", setting="model.name_or_path")
    expect_error(
        "pickles", lambda: text_recipe(encoder, "qwen3", num_layers=4, hidden_size=None), "readable config.json"
    )
    assert not canary.exists()


def test_a_good_lora_and_the_tiny_model_are_good(tmp_path: Path) -> None:
    save_file(lora_tensors(), tmp_path / "x.safetensors")
    expect_result("lora files", lambda: read_lora_file(tmp_path / "x.safetensors", arch=ARCH))
    job = yaml.safe_load(write_job(tmp_path).read_text())
    assert job["config"]["process"][0]["model"]["name_or_path"] == str(TINY)
    assert run.main([str(tmp_path / "job.yaml"), "--check"]) == 0
