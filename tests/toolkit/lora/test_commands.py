"""python -m toolkit.lora"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import Flux2Transformer2DModel

from extensions_built_in.diffusion_models.flux2.lora_names import write
from tests.golden.models import single_file, transformer
from toolkit.lora.__main__ import main
from toolkit.lora.files import read_lora_file
from toolkit.lora.update import Update, distance, fuse, norm
from toolkit.weights.tensor_files import read_metadata, read_tensors, write_tensors

QKV, PROJ, LINEAR2 = "double_blocks.0.img_attn.qkv", "double_blocks.1.txt_attn.proj", "single_blocks.0.linear2"


def _updates() -> dict[str, Update]:
    generator = torch.Generator().manual_seed(0)

    def random(out: int, into: int, rank: int) -> Update:
        return Update(torch.randn(rank, into, generator=generator), torch.randn(out, rank, generator=generator))

    return {
        QKV: fuse({i: random(64, 64, 4) for i in range(3)}, 3),
        PROJ: random(64, 64, 4),
        LINEAR2: random(64, 256, 4),
    }


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    path = tmp_path / "lora.safetensors"
    header = {"ss_base_model_version": "flux2", "lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 8})}
    write_tensors(path, write(_updates(), "diffusers"), header)
    return path


@pytest.mark.parametrize("file_format", ["bfl", "diffusers", "kohya"])
def test_convert_keeps_the_change_and_folds_alpha(file_format: str, lora: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    assert main(["convert", str(lora), "--format", file_format, "--output", str(output)]) == 0
    before, after = read_lora_file(lora), read_lora_file(output)
    assert before.updates.keys() == after.updates.keys() == _updates().keys()
    for name, update in _updates().items():
        doubled = Update(update.a, 2 * update.b)
        assert distance(before.updates[name], doubled) < 1e-6 * norm(doubled)
        assert distance(after.updates[name], doubled) < 1e-6 * norm(doubled)
    assert "lora_adapter_metadata" not in read_metadata(output)
    assert read_metadata(output)["ss_base_model_version"] == "flux2"


def test_an_output_is_not_replaced_unless_asked(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = lora.read_bytes()
    assert main(["convert", str(lora), "--output", str(lora)]) == 2
    assert "--force" in capsys.readouterr().err
    assert lora.read_bytes() == before
    assert main(["convert", str(lora), "--output", str(lora), "--force"]) == 0


def test_info_says_what_a_file_is(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.safetensors"
    main(["convert", str(lora), "--output", str(output)])
    capsys.readouterr()
    assert main(["info", str(lora), str(output)]) == 0
    told = capsys.readouterr().out
    assert "LoRA for flux2" in told
    assert "transformer.<layer>.lora_A.weight, float32" in told
    assert "diffusion_model.<layer>.lora_A.weight, float32" in told
    assert "3 layers, rank 4 (2 x), 12 (1 x)" in told
    assert told.count("as in the header") == 1


def test_info_notices_tensors_that_were_changed(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["convert", str(lora), "--output", str(lora), "--force"])
    state = {key: 2 * tensor for key, tensor in read_tensors(lora).items()}
    write_tensors(lora, state, read_metadata(lora))
    main(["info", str(lora)])
    assert "the tensors were changed" in capsys.readouterr().out


def test_resize_up_is_exact_and_down_says_what_is_lost(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up, down = tmp_path / "up.safetensors", tmp_path / "down.safetensors"
    assert main(["resize", str(lora), "--rank", "12", "--output", str(up)]) == 0
    assert "0 % of the change was lost" in capsys.readouterr().out
    assert main(["resize", str(up), "--rank", "4", "--output", str(down)]) == 0
    assert "most in double_blocks.0.img_attn.qkv" in capsys.readouterr().out
    before, after = read_lora_file(lora).updates, read_lora_file(down).updates
    assert {update.rank for update in after.values()} == {4}
    for name in (PROJ, LINEAR2):
        assert distance(after[name], before[name]) < 1e-6 * norm(before[name])
    assert 0.1 < distance(after[QKV], before[QKV]) / norm(before[QKV]) < 0.9


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merge_into_a_single_file(prefix: str, dtype: torch.dtype, lora: Path, tmp_path: Path) -> None:
    base, output = tmp_path / "base.safetensors", tmp_path / "merged.safetensors"
    state = {name: tensor.to(dtype) for name, tensor in single_file("dev").items()}
    write_tensors(base, {f"{prefix}{name}": tensor for name, tensor in state.items()}, {"about": "base"})
    assert main(["merge", str(lora), "--base", str(base), "--weight", "0.5", "--output", str(output)]) == 0
    merged, metadata = read_tensors(output), read_metadata(output)
    assert metadata == {"about": "base"}
    assert merged.keys() == {f"{prefix}{name}" for name in state}
    for name, tensor in state.items():
        target = name.removesuffix(".weight")
        if target in _updates():  # alpha 8 at rank 4, weight 0.5
            tensor = (tensor.float() + _updates()[target].delta()).to(dtype)
        assert torch.allclose(merged[f"{prefix}{name}"].float(), tensor.float(), rtol=2**-8, atol=1e-6), name


def test_merge_into_a_diffusers_folder_gives_the_same_model(lora: Path, tmp_path: Path) -> None:
    transformer("dev").save_pretrained(tmp_path / "transformer", max_shard_size="100KB")
    assert len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1
    output = tmp_path / "merged"
    assert main(["merge", str(lora), "--base", str(tmp_path / "transformer"), "--output", str(output)]) == 0
    state = single_file("dev")
    for name, update in _updates().items():
        state[f"{name}.weight"] = state[f"{name}.weight"] + 2 * update.delta()
    expected = transformer("dev", state).state_dict()
    found = Flux2Transformer2DModel.from_pretrained(output).state_dict()
    assert all(torch.allclose(found[name], tensor, atol=1e-5) for name, tensor in expected.items())


def test_merge_into_another_model_is_refused(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, output = tmp_path / "base.safetensors", tmp_path / "merged.safetensors"
    state = single_file("dev")
    for change, message in (
        ({f"{LINEAR2}.weight": torch.zeros(3, 3)}, "probably of another model"),
        (
            {f"{LINEAR2}.weight": state[f"{LINEAR2}.weight"].to(torch.float8_e4m3fn)},
            "Only bf16, fp16 and fp32 weights can be merged into",
        ),
        ({}, "lacks 1 of the 3 layers"),
    ):
        altered = {**state, **change}
        if not change:
            del altered[f"{LINEAR2}.weight"]
        write_tensors(base, altered)
        assert main(["merge", str(lora), "--base", str(base), "--output", str(output)]) == 2
        assert message in capsys.readouterr().err
        assert not output.exists()


def test_mistakes_are_reported_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    write_tensors(tmp_path / "foreign.safetensors", {"unet.x.lora_A.weight": torch.ones(1, 1)})
    for name, message in (
        ("absent.safetensors", "no such file"),
        ("broken.safetensors", "cannot be read"),
        ("foreign.safetensors", "1 of 1 keys"),
    ):
        assert main(["info", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
