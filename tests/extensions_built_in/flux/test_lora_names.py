"""FLUX.1's LoRA files: as ai-toolkit, diffusers, ComfyUI and kohya have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from extensions_built_in.diffusion_models.flux import lora_names
from extensions_built_in.diffusion_models.flux.flux_model import FluxModel
from extensions_built_in.diffusion_models.flux.lora_names import FORMATS, write
from extensions_built_in.diffusion_models.flux.released_files import to_single_file
from tests.tiny_flux import tiny_transformer
from toolkit.errors import UserError
from toolkit.lora.__main__ import main
from toolkit.lora.files import read_lora_file
from toolkit.lora.parse import parse
from toolkit.lora.update import LayerLocation, Update, distance, norm, swap_halves
from toolkit.weights.tensor_files import read_tensors, write_tensors

QKV = tuple(f"transformer_blocks.0.attn.to_{one}" for one in "qkv")


def _updates(*, rank: int = 3, transformer_only: bool = True) -> dict[str, Update]:
    """Something for every layer, each with an A of its own, as ai-toolkit trains them."""
    generator = torch.Generator().manual_seed(0)
    transformer = tiny_transformer()
    updates = {}
    for target in lora_names.targets(transformer):
        if transformer_only and not target.name.startswith(tuple(lora_names.BLOCK_LISTS)):
            continue
        layer: Any = transformer.get_submodule(target.name)
        a = torch.randn(rank, layer.in_features, generator=generator)
        updates[target.name] = Update(a, 0.01 * torch.randn(layer.out_features, rank, generator=generator))
    return updates


def _assert_same(found: Mapping[str, Update], expected: Mapping[str, Update]) -> None:
    assert found.keys() == expected.keys()
    for name, update in expected.items():
        assert distance(found[name], update) < 1e-5 * norm(update), name


def _base() -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in tiny_transformer().state_dict().items()}


def _merged(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    state = _base()
    for name, update in updates.items():
        state[f"{name}.weight"] = state[f"{name}.weight"] + update.delta()
    return state


def test_every_linear_layer_of_the_blocks_is_a_target_by_ai_toolkits_name() -> None:
    state = write(_updates(), "diffusers")
    for name in ("attn.to_q", "attn.to_out.0", "norm1.linear", "ff.net.0.proj", "ff_context.net.2", "attn.to_add_out"):
        assert f"transformer.transformer_blocks.0.{name}.lora_A.weight" in state
    for name in ("norm.linear", "proj_mlp", "proj_out", "attn.to_v"):
        assert f"transformer.single_transformer_blocks.1.{name}.lora_B.weight" in state
    transformer = tiny_transformer(guidance_embeds=False)
    linears = {name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {target.name for target in lora_names.targets(transformer)} == linears
    assert len(_updates()) == 2 * 14 + 2 * 6  # 494 with the 19 and 38 blocks of the released model


def test_a_target_is_found_by_each_of_its_names() -> None:
    for target in lora_names.targets(tiny_transformer()):
        for name in (target.name, target.name.replace(".", "_")):
            assert lora_names.locate(name) == LayerLocation(target.name)
        where = lora_names.locate(lora_names.released_of(target.name))
        assert where is not None
        assert target.name in where.shares()
        assert lora_names.locate(lora_names.released_of(target.name).replace(".", "_")) == where
    assert lora_names.locate("double_blocks.0.img_attn.nothing") is None
    assert lora_names.locate("double_stream_modulation_img.lin") is None


@pytest.mark.parametrize("transformer_only", [True, False])
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_is_read_back_as_it_was(file_format: str, transformer_only: bool) -> None:
    updates = _updates(transformer_only=transformer_only)
    _assert_same(parse(write(updates, file_format), {}, FluxModel.locate_layer), updates)


def test_fused_layers_may_lack_parts_and_share_a() -> None:
    some = {name: update for name, update in _updates().items() if name not in QKV[1:]}
    for file_format in ("bfl", "kohya"):
        _assert_same(parse(write(some, file_format), {}, FluxModel.locate_layer), some)
    shared = torch.randn(3, 64)
    same_a = {name: Update(shared, update.b) for name, update in _updates().items() if name in QKV}
    state = write(same_a, "bfl")
    assert state["diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight"].shape == (3, 64)
    _assert_same(parse(state, {}, FluxModel.locate_layer), same_a)


def test_a_layer_given_fused_and_apart_is_refused() -> None:
    updates = {QKV[0]: _updates()[QKV[0]]}
    with pytest.raises(UserError, match="occurs twice"):
        parse({**write(updates, "bfl"), **write(updates, "diffusers")}, {}, FluxModel.locate_layer)


@pytest.mark.parametrize("transformer_only", [True, False])
def test_diffusers_loads_the_file_and_does_the_same(transformer_only: bool, tmp_path: Path) -> None:
    updates = _updates(transformer_only=transformer_only)
    write_tensors(tmp_path / "lora.safetensors", write(updates, "diffusers"))
    transformer = tiny_transformer().float()
    absent = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    pipeline = FluxPipeline(transformer=transformer, **dict.fromkeys(absent))
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    found, expected = transformer.state_dict(), _merged(updates)
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=1e-5), name


def test_diffusers_reads_the_kohya_file_as_the_same_change() -> None:
    updates = _released_widths()
    read = FluxPipeline.lora_state_dict(write(updates, "kohya"))
    _assert_same(parse(read, {}, FluxModel.locate_layer), updates)


def _pairs(updates: Mapping[str, Update], *, down: str, up: str, factor: float = 1.0) -> dict[str, Tensor]:
    """A and B of each layer under a program's names, and an alpha that makes up for a factor of B."""
    state: dict[str, Tensor] = {}
    for name, update in updates.items():
        state |= {f"{name}.{down}.weight": update.a, f"{name}.{up}.weight": update.b / factor}
        if factor != 1:
            state[f"{name}.alpha"] = torch.tensor(factor * update.rank)
    return state


def test_the_parts_that_onetrainer_numbers_are_read() -> None:
    updates, named = _updates(transformer_only=False), {}
    for name, update in updates.items():
        released = lora_names.released_of(name)
        layers = lora_names.layers_of(released)
        part = f".{layers.index(name)}" if len(layers) > 1 else ".proj" if released == "img_in" else ""
        is_swapped = released == lora_names.SWAPPED
        named[f"transformer.{released}{part}"] = Update(update.a, swap_halves(update.b)) if is_swapped else update
    assert "transformer.single_blocks.1.linear1.3" in named
    state = _pairs(named, down="lora_down", up="lora_up", factor=2.0)
    _assert_same(parse(state, {}, FluxModel.locate_layer), updates)


def test_layers_that_diffusers_has_fused_are_read() -> None:
    same_a = _with_a_of_one({name: update for name, update in _updates().items() if _is_attention(name)})
    state = _pairs(_fused(same_a, "{}.attn.to_{}qkv"), down="lora_A", up="lora_B")
    assert "transformer.single_transformer_blocks.0.attn.to_qkv.lora_A.weight" in state
    _assert_same(parse(state, {}, FluxModel.locate_layer), same_a)


def test_the_names_of_xlabs_are_read_as_diffusers_reads_them() -> None:
    every = {name: update for name, update in _updates().items() if _is_attention(name)}
    fused = _fused(_with_a_of_one(every), "{}.attn.to_{}qkv")
    named = {}
    for name, update in fused.items():
        block = name.removeprefix("transformer.").replace("single_transformer_blocks", "single_blocks")
        block = block.replace("transformer_blocks", "double_blocks").partition(".attn")[0]
        number = "" if "single" in block else "2" if "added" in name else "1"
        named[f"{block}.processor.qkv_lora{number}"] = update
    for index in range(2):
        named[f"double_blocks.{index}.processor.proj_lora1"] = _updates()[f"transformer_blocks.{index}.attn.to_out.0"]
        named[f"double_blocks.{index}.processor.proj_lora2"] = _updates()[f"transformer_blocks.{index}.attn.to_add_out"]
        named[f"single_blocks.{index}.processor.proj_lora"] = _updates()[f"single_transformer_blocks.{index}.proj_out"]
    state = _pairs(named, down="down", up="up")
    read = parse(FluxPipeline.lora_state_dict(dict(state)), {}, FluxModel.locate_layer)
    _assert_same(parse(state, {}, FluxModel.locate_layer), read)
    assert len(read) == 2 * 8 + 2 * 4


def _is_attention(name: str) -> bool:
    return name.endswith(("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"))


def _with_a_of_one(updates: Mapping[str, Update]) -> dict[str, Update]:
    """The updates of each kind of q, k and v with the A of the first: what a fused layer can hold."""
    shared: dict[str, Tensor] = {}
    return {
        name: Update(shared.setdefault(f"{name.partition('.attn')[0]} {'add' in name}", update.a), update.b)
        for name, update in updates.items()
    }


def _fused(updates: Mapping[str, Update], template: str) -> dict[str, Update]:
    """The updates of q, k and v as one, by diffusers' name of the fused layer."""
    parts: dict[str, list[Update]] = {}
    for name, update in updates.items():
        block = f"transformer.{name.partition('.attn')[0]}"
        parts.setdefault(template.format(block, "added_" if "add" in name else ""), []).append(update)
    return {name: Update(q.a, torch.cat([q.b, k.b, v.b])) for name, (q, k, v) in parts.items()}


def _released_widths() -> dict[str, Update]:
    """A block of each kind and the layers around them, as wide as the released model: diffusers knows no other."""
    generator = torch.Generator().manual_seed(0)
    heights = {"norm1.linear": 6, "norm1_context.linear": 6, "norm.linear": 3, "proj_mlp": 4, "norm_out.linear": 2}
    names = [name for name in _updates(rank=1, transformer_only=False) if "blocks.1" not in name]
    return {
        name: Update(
            torch.randn(2, 3072, generator=generator),
            torch.randn(
                3072 * next((h for end, h in heights.items() if name.endswith(end)), 1), 2, generator=generator
            ),
        )
        for name in names
    }


@pytest.mark.parametrize("file_format", FORMATS)
def test_merging_into_each_layout_gives_the_same_model(file_format: str, tmp_path: Path) -> None:
    updates, lora = _updates(transformer_only=False), tmp_path / "lora.safetensors"
    write_tensors(lora, write(updates, file_format))
    released, folder = tmp_path / "released.safetensors", tmp_path / "transformer"
    save_file({name: tensor.contiguous() for name, tensor in to_single_file(_base()).items()}, released)
    tiny_transformer().float().save_pretrained(folder, max_shard_size="100KB")
    for base in (released, folder):
        output = tmp_path / f"merged_{base.name}"
        assert main(["merge", str(lora), "--base", str(base), "--output", str(output)]) == 0
        files = [output] if output.is_file() else sorted(output.glob("*.safetensors"))
        merged = {name: tensor for file in files for name, tensor in load_file(file).items()}
        expected = _merged(updates) if base == folder else to_single_file(_merged(updates))
        assert merged.keys() == expected.keys()
        assert all(torch.allclose(merged[name], tensor, atol=1e-5) for name, tensor in expected.items())


def test_the_commands_know_a_file_of_flux_1_by_its_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lora, kohya, back, small = (tmp_path / f"{name}.safetensors" for name in ("lora", "kohya", "back", "small"))
    write_tensors(lora, write(_updates(), "diffusers"), {"ss_base_model_version": "flux.1"})
    assert main(["info", str(lora)]) == 0
    assert "40 layers, rank 3" in capsys.readouterr().out
    assert main(["convert", str(lora), "--format", "kohya", "--output", str(kohya)]) == 0
    assert "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight" in read_tensors(kohya)
    write_tensors(kohya, read_tensors(kohya))  # as of another program: without a header
    assert main(["convert", str(kohya), "--output", str(back)]) == 0
    assert read_tensors(back).keys() == read_tensors(lora).keys(), "the format that jobs write, unless another is named"
    _assert_same(read_lora_file(back).updates, _updates())
    assert main(["resize", str(back), "--rank", "2", "--output", str(small)]) == 0
    assert {update.rank for update in read_lora_file(small).updates.values()} == {2}


def test_names_that_two_families_have_are_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "attention.safetensors"
    write_tensors(path, write({name: _updates()[name] for name in QKV}, "diffusers"))
    assert main(["info", str(path)]) == 2
    assert "--arch flux or flux2" in capsys.readouterr().err
    assert main(["info", str(path), "--arch", "flux"]) == 0
