"""extensions_built_in.diffusion_models.flux2.loading, from every layout"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from safetensors.torch import load_file, save_file

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Model, Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.loading import RELEASED, transformer_config, transformer_recipe
from tests import layouts
from tests.tiny import ROOT, TINY, run_job, tiny_config, write_job
from toolkit.errors import UserError
from toolkit.output.events import read_events
from toolkit.weights.layouts import ComponentFiles

CPU = torch.device("cpu")
KINDS = {"dev": ("flux2", "flux2-dev"), "klein": ("flux2_tiny", "flux-2-klein-base-4b")}


def _model(place: Path, kind: str = "klein", *, dtype: torch.dtype = torch.bfloat16, **options: object) -> Flux2Model:
    arch, _ = KINDS[kind]
    model_class = Flux2Model if kind == "dev" else Flux2TinyModel
    return model_class(tiny_config(name_or_path=place, arch=arch, **options), device=CPU, dtype=dtype)


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _released(arch: str) -> Flux2Transformer2DModel:
    build = RELEASED[arch]
    with torch.device("meta"):
        return Flux2Transformer2DModel(
            num_layers=build.num_double,
            num_single_layers=build.num_single,
            num_attention_heads=build.hidden // 128,
            joint_attention_dim=build.joint_dim,
            guidance_embeds=build.has_guidance,
        )


def _klein(folder: Path, layout: str = "released") -> Path:
    model = layouts.small_transformer(guidance_embeds=False)
    return layouts.write_model(folder, layout, model, stem="flux-2-klein-base-4b")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [name for name in layouts.LAYOUTS if "fp8" not in name])
def test_every_layout_gives_the_weights_it_was_made_of(layout: str, kind: str, tmp_path: Path) -> None:
    original = layouts.small_transformer(guidance_embeds=kind == "dev")
    model = _model(layouts.write_model(tmp_path / "model", layout, original, stem=KINDS[kind][1]), kind)
    if not (tmp_path / "model" / "model_index.json").exists():
        model.check_files()  # of a model's whole folder it would also ask for the text encoder
    model.load("transformer")
    assert _same(model.transformer, original)
    assert not model.get_model_has_grad()
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.transformer.parameters())
    model.load("vae")
    assert _same(model.vae.float(), layouts.small_vae().to(model.vae_dtype).float())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [name for name in layouts.LAYOUTS if "fp8" in name])
def test_fp8_files_give_what_they_stand_for(layout: str, kind: str, tmp_path: Path) -> None:
    original = layouts.small_transformer(guidance_embeds=kind == "dev")
    place = layouts.write_model(tmp_path / "model", layout, original, stem=f"{KINDS[kind][1]}-fp8")
    model = _model(place, kind, dtype=torch.float32)
    model.load("transformer")
    state = layouts.released_transformer(original)
    stored = {"fp8": layouts.plain_fp8, "fp8 per row": layouts.per_row_fp8}.get(layout, layouts.scaled)(state)
    expected = layouts.unscaled_reference(stored)
    loaded = layouts.released_transformer(model.transformer)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    error = torch.cat([(loaded[name] - state[name].float()).flatten() for name in state])
    assert error.norm() < 0.1 * torch.cat([tensor.float().flatten() for tensor in state.values()]).norm()


@pytest.mark.parametrize("arch", RELEASED)
def test_shapes_alone_give_the_released_configuration(arch: str) -> None:
    released = _released(arch)
    config = transformer_config({name: tuple(tensor.shape) for name, tensor in released.state_dict().items()})
    assert config.pop("out_channels") == 128
    assert {key: released.config[key] for key in config} == config


def test_a_vae_with_the_small_decoder_is_known_by_its_widths(tmp_path: Path) -> None:
    vae = layouts.small_vae(decoder_widths=(32, 32, 32, 32))
    path = tmp_path / "full_encoder_small_decoder.safetensors"
    save_file(layouts.released_vae(vae), path)
    model = _model(_klein(tmp_path / "model"), vae_path=path)
    model.load("vae")
    assert model.vae.config.decoder_block_out_channels == (32, 32, 32, 32)
    assert _same(model.vae.float(), vae.to(model.vae_dtype).float())


def test_places_of_single_components_win(tmp_path: Path) -> None:
    place = _klein(tmp_path / "model", "diffusers")
    other_vae = layouts.small_vae(decoder_widths=(32, 32, 32, 32))
    save_file(layouts.released_vae(other_vae), tmp_path / "vae.safetensors")
    other = layouts.small_transformer(guidance_embeds=False)
    torch.nn.init.ones_(other.x_embedder.weight)
    save_file(layouts.released_transformer(other), tmp_path / "mine.safetensors")
    paths = {"transformer": str(tmp_path / "mine.safetensors"), "vae": str(tmp_path / "vae.safetensors")}
    model = _model(place, model_paths=paths)
    model.load("transformer")
    model.load("vae")
    assert _same(model.transformer, other)
    assert model.vae.config.decoder_block_out_channels == (32, 32, 32, 32)


@pytest.mark.parametrize("key", ["te_name_or_path", "model_paths"])
def test_the_text_encoder_has_a_place_of_its_own(key: str, tmp_path: Path) -> None:
    folder = tmp_path / "qwen"
    (folder / "text_encoder").mkdir(parents=True)
    (folder / "text_encoder" / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    place: Any = str(folder) if key == "te_name_or_path" else {"text_encoder": str(folder)}
    model = _model(_klein(tmp_path / "model"), **{key: place})
    assert model.sources.find("text_encoder").folder == folder / "text_encoder"
    assert model.sources.find("tokenizer").folder == folder


def test_a_single_file_has_the_released_scheduler(tmp_path: Path) -> None:
    model = _model(_klein(tmp_path / "model"))
    scheduler = model._pipeline_parts()["scheduler"]
    assert scheduler.config.use_dynamic_shifting
    assert (scheduler.config.base_shift, scheduler.config.max_shift) == (0.5, 1.15)


# Errors: each says where, what, and what to do


def _header_only(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A file that has the tensors' shapes and, being sparse, takes no disk."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        size = 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize("given", RELEASED)
@pytest.mark.parametrize("asked", RELEASED)
def test_weights_of_another_arch_are_named(given: str, asked: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    _header_only(path, layouts.released_transformer(_released(given)))
    files = ComponentFiles(path, None, (path,))
    if RELEASED[given] == RELEASED[asked]:
        config: Any = transformer_recipe(files, arch=asked).module.config
        assert config.joint_attention_dim == RELEASED[given].joint_dim
    else:
        with pytest.raises(UserError, match=rf"mine\.safetensors is FLUX\.2 .*Set `arch: {given[:14]}"):
            transformer_recipe(files, arch=asked)


def _expect(model: Flux2Model, message: str, component: str = "transformer") -> None:
    with pytest.raises(UserError, match=message):
        model.load(component)  # type: ignore[arg-type]


def test_the_other_kind_is_named_where_the_size_was_never_released(tmp_path: Path) -> None:
    _expect(_model(_klein(tmp_path / "model"), "dev"), "is a klein model.*flux2_klein_4b or flux2_klein_9b")
    dev = layouts.small_transformer(guidance_embeds=True)
    _expect(_model(layouts.write_model(tmp_path / "dev", "released", dev, stem="x")), "is a dev model.*to flux2")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"1 missing: single_transformer_blocks\.1\.attn\.to_qkv_mlp_proj\.weight"),
        ("unknown", r"1 unknown: double_blocks\.0\.extra\.weight"),
        ("shape", r"1 of another shape: proj_out\.weight is \[64, 7\] instead of \[64, 64\]"),
        ("lora", "is a LoRA, not a model"),
        ("flux1", "is a FLUX.1 model"),
        ("text encoder", "belongs to model.te_name_or_path"),
        ("other", "has other tensors, such as foo"),
        ("nvfp4", "fewer than 8 bits or as integers"),
        ("scale without weight", "not its weight"),
        ("scale of odd shape", "neither a single scale nor one per row"),
    ],
)
def test_files_with_the_wrong_tensors_are_explained(damage: str, message: str, tmp_path: Path) -> None:
    path = _klein(tmp_path / "model")
    state = load_file(path)
    if damage == "missing":
        state = {name: tensor for name, tensor in state.items() if "single_blocks.1.linear1" not in name}
    elif damage == "unknown":
        state["double_blocks.0.extra.weight"] = torch.ones(1)
    elif damage == "shape":
        state["final_layer.linear.weight"] = torch.ones(64, 7)
    elif damage == "nvfp4":
        state["double_blocks.0.img_mlp.0.weight"] = torch.ones(384, 32, dtype=torch.uint8)
    elif damage == "scale without weight":
        state["double_blocks.9.img_mlp.0.weight_scale"] = torch.ones(1)
    elif damage == "scale of odd shape":
        state["double_blocks.0.img_mlp.0.weight_scale"] = torch.ones(2, 3)
    else:
        name = {
            "lora": "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight",
            "flux1": "double_blocks.0.img_mod.lin.weight",
            "text encoder": "model.layers.0.mlp.up_proj.weight",
        }.get(damage, "foo")
        state = {name: torch.ones(2, 2)}
    save_file(state, path)
    _expect(_model(path), message)


def test_truncated_and_corrupt_files_are_named(tmp_path: Path) -> None:
    path = _klein(tmp_path / "model")
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[: len(whole) // 2], whole[:5], b"", b"\xff" * 100):
        path.write_bytes(broken)
        _expect(_model(path), rf"{path.name}: cannot be read as safetensors .*download it again")


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "pytorch_model.bin"])
def test_pickle_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    for place in (tmp_path / name, tmp_path):
        _expect(_model(place), rf"{name} is a pickle file.*Use a \.safetensors file")


def test_a_diffusers_folder_of_pickles_is_refused(tmp_path: Path) -> None:
    place = _klein(tmp_path / "model", "diffusers")
    weights = place / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    _expect(_model(place), "is a pickle file")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    place = _klein(tmp_path / "model", "diffusers sharded")
    shards = sorted((place / "transformer").glob("*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    _expect(_model(place), rf"1 of the {len(shards)} files that it lists are missing, such as {shards[1].name}")


def test_folders_without_the_component_say_what_was_looked_for(tmp_path: Path) -> None:
    _expect(_model(tmp_path), r"contains no transformer: .*flux-2-klein-base-4b\.safetensors.*It has: nothing")
    place = _klein(tmp_path / "model", "diffusers")
    shutil.rmtree(place / "vae")
    _expect(_model(place), "contains no vae", "vae")
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    _expect(_model(tmp_path), "It has 2 safetensors files: name one of them")


def test_a_file_in_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    _expect(_model(path), "is not a safetensors file")


def test_weights_that_others_have_quantized_are_refused(tmp_path: Path) -> None:
    place = _klein(tmp_path / "model", "diffusers")
    config = place / "transformer" / "config.json"
    quantized = {"quantization_config": {"quant_method": "bitsandbytes"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | quantized))
    _expect(_model(place), "are quantized with bitsandbytes.*Use the bf16 weights")


def test_the_vae_of_flux1_and_half_a_vae_are_told_apart(tmp_path: Path) -> None:
    path = _klein(tmp_path / "model")
    state = layouts.released_vae(layouts.small_vae())
    without_statistics = {name: tensor for name, tensor in state.items() if not name.startswith("bn.")}
    save_file(without_statistics, tmp_path / "ae.safetensors")
    _expect(_model(path, vae_path=tmp_path / "ae.safetensors"), "FLUX.1's file has the same name", "vae")
    decoder = {name.removeprefix("decoder."): t for name, t in state.items() if name.startswith("decoder.")}
    save_file(decoder, tmp_path / "small_decoder.safetensors")
    _expect(_model(path, vae_path=tmp_path / "small_decoder.safetensors"), "only the decoder", "vae")


def test_what_a_single_file_lacks_comes_from_the_hub_or_a_place_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "flux2-dev.safetensors"
    save_file({"x": torch.ones(1)}, path)
    message = r"contains no tokenizer, and black-forest-labs/FLUX\.2-dev.*cannot be used.*model_paths\.tokenizer to a"
    _expect(_model(path, "dev"), message, "text_encoder")


def test_a_run_stops_before_it_encodes_anything_if_a_part_of_the_model_is_out_of_reach(tmp_path: Path) -> None:
    paths = {"text_encoder": str(TINY), "vae": "owner/gated"}
    job = write_job(tmp_path, model={"model_paths": paths})
    assert run_job(job).status == "failed"
    events = list(read_events(tmp_path / "output" / "job" / "events.jsonl"))
    assert [event["kind"] for event in events] == ["job", "error", "end"]
    assert "model.model_paths.vae: owner/gated cannot be downloaded" in events[1]["message"]


def test_loading_1_gb_takes_no_more_memory_than_the_model_and_one_tensor(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    memory_disk = Path("/dev/shm")
    folder = memory_disk if memory_disk.is_dir() and shutil.disk_usage(memory_disk).free > 4e9 else tmp_path
    command = [sys.executable, "-m", "benchmarks.load", "--out", str(out), "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures["model_bytes"] > 1e9
    assert figures["host_peak_beyond_model_bytes"] < figures["largest_tensor_bytes"] + 32e6
