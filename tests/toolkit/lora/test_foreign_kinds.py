"""Adapters of every kind, written by peft itself or by LyCORIS's rules, against what `merge` makes of the model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from peft import GloraConfig, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftConfig, get_peft_model
from torch import Tensor

from tests.golden.models import single_file, transformer
from toolkit.errors import UserError
from toolkit.lora.__main__ import main
from toolkit.lora.files import read_adapter_file, read_lora_file
from toolkit.weights.tensor_files import read_tensors, write_tensors

LAYERS = ["attn.to_q", "attn.to_k", "attn.to_out.0", "ff.linear_in", "to_qkv_mlp_proj"]
TO_Q, LINEAR1 = "transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.attn.to_qkv_mlp_proj"
CONFIGS: dict[str, PeftConfig] = {
    "LoRA": LoraConfig(r=4, lora_alpha=8, target_modules=LAYERS),
    "LoRA with patterns": LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=LAYERS,
        rank_pattern={"attn.to_k": 2},
        alpha_pattern={r"transformer_blocks.1.attn.to_q": 3},
    ),
    "rslora": LoraConfig(r=4, lora_alpha=8, target_modules=LAYERS, use_rslora=True),
    "DoRA": LoraConfig(r=4, lora_alpha=8, target_modules=LAYERS, use_dora=True),
    "LoKr": LoKrConfig(r=4, alpha=8, target_modules=LAYERS),
    "LoKr of two low ranks": LoKrConfig(r=2, alpha=8, target_modules=LAYERS, decompose_both=True, decompose_factor=8),
    "LoKr of full factors": LoKrConfig(r=64, alpha=128, target_modules=LAYERS, alpha_pattern={"attn.to_k": 16}),
    "LoKr with patterns": LoKrConfig(
        r=64, alpha=128, target_modules=LAYERS, alpha_pattern={"attn.to_k": 16}, rank_pattern={"attn.to_q": 32}
    ),
    "LoHa": LoHaConfig(r=4, alpha=8, target_modules=LAYERS, alpha_pattern={"attn.to_k": 16}),
    "OFT": OFTConfig(r=0, oft_block_size=8, target_modules=LAYERS),
    "OFT, exact": OFTConfig(r=0, oft_block_size=8, target_modules=LAYERS, use_cayley_neumann=False),
    "OFT of 3 terms": OFTConfig(r=0, oft_block_size=8, target_modules=LAYERS, num_cayley_neumann_terms=3),
    "OFT, shared and bound": OFTConfig(
        r=0, oft_block_size=8, target_modules=LAYERS, block_share=True, coft=True, eps=0.5
    ),
    "GLoRA": GloraConfig(r=4, target_modules=LAYERS),
    "GLoRA of columns": GloraConfig(r=4, target_modules=LAYERS, config_A_B="vector"),
    "GLoRA of numbers": GloraConfig(r=4, target_modules=LAYERS, config_A_B="constant"),
}
AS_LORA = [name for name in CONFIGS if name.startswith(("LoRA", "LoKr", "rslora"))]


def _write(config: PeftConfig, folder: Path) -> dict[str, Tensor]:
    """A peft folder of a random adapter. Returns the weights of the model that peft has merged it into."""
    torch.manual_seed(0)
    model = get_peft_model(transformer("dev"), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                spread = torch.randn(parameter.shape) * 0.1
                parameter.copy_(parameter + spread if "magnitude" in name else spread)
    model.save_pretrained(folder)
    return dict(model.merge_and_unload().state_dict())


def _merged(file: Path, folder: Path, *options: str) -> dict[str, Tensor]:
    transformer("dev").save_pretrained(folder / "base")
    output = folder / "merged"
    assert main(["merge", str(file), "--base", str(folder / "base"), "--output", str(output), *options]) == 0
    return dict(Flux2Transformer2DModel.from_pretrained(output).state_dict())


def _error(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """The largest relative error of W' - W; weights that should not change must not."""
    base, errors = transformer("dev").state_dict(), []
    for name, weight in base.items():
        change = (wanted[name].double() - weight).norm()
        if change > 0:
            errors.append(float((found[name].double() - wanted[name]).norm() / change))
        else:
            assert torch.equal(found[name], weight), name
    assert len(errors) == sum(any(re.search(rf"\.{layer}\.weight$", name) for layer in LAYERS) for name in base)
    return max(errors)


@pytest.mark.parametrize("kind", CONFIGS)
def test_merge_makes_the_same_model_of_an_adapter_as_peft(kind: str, tmp_path: Path) -> None:
    wanted = _write(CONFIGS[kind], tmp_path)
    assert _error(_merged(tmp_path / "adapter_model.safetensors", tmp_path), wanted) < 3e-6


@pytest.mark.parametrize("kind", AS_LORA)
def test_a_lora_and_a_lokr_of_peft_are_converted_at_their_strength(kind: str, tmp_path: Path) -> None:
    wanted = _write(CONFIGS[kind], tmp_path)
    converted = tmp_path / "own" / "lora.safetensors"
    converted.parent.mkdir()
    file = tmp_path / "adapter_model.safetensors"
    assert main(["convert", str(file), "--arch", "flux2", "--format", "bfl", "--output", str(converted)]) == 0
    assert _error(_merged(converted, tmp_path, "--arch", "flux2"), wanted) < 3e-6


@pytest.mark.parametrize("kind", ["LoKr", "LoKr of full factors", "LoHa", "rslora"])
def test_settings_in_a_header_of_diffusers_count_as_those_beside_the_file(kind: str, tmp_path: Path) -> None:
    wanted = _write(CONFIGS[kind], tmp_path)
    state = read_tensors(tmp_path / "adapter_model.safetensors")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    header = {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in settings.items()})}
    file = tmp_path / "alone" / "pytorch_lora_weights.safetensors"
    file.parent.mkdir()
    write_tensors(file, {key.replace("base_model.model.", "transformer."): t for key, t in state.items()}, header)
    assert _error(_merged(file, tmp_path), wanted) < 3e-6


def test_a_file_of_peft_without_its_settings_is_refused_with_the_reason(tmp_path: Path) -> None:
    _write(CONFIGS["LoRA"], tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(UserError, match=r"adapter_config\.json beside the weights, which is missing"):
        read_lora_file(tmp_path / "adapter_model.safetensors")


def test_an_adapter_to_changed_base_weights_is_refused(tmp_path: Path) -> None:
    _write(CONFIGS["LoRA"], tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": "pissa_niter_16"}))
    with pytest.raises(UserError, match=r"init_lora_weights: pissa_niter_16.*changes the base weights"):
        read_lora_file(tmp_path / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("kind", "name"), [("LoHa", "LoHa"), ("DoRA", "DoRA"), ("OFT", "OFT"), ("GLoRA", "GLoRA"), ("LoKr", "LoKr")]
)
def test_info_names_the_kind_and_only_merge_takes_what_is_no_lora(
    kind: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(CONFIGS[kind], tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    assert main(["info", str(file), "--arch", "flux2"]) == 0
    told = capsys.readouterr().out
    assert f"{file}: {name} for" in told
    if kind != "LoKr":
        assert "training can start from it with the same `network.type`" in told
        with pytest.raises(UserError, match=rf"contains {name}, which a LoRA cannot represent"):
            read_lora_file(file, arch="flux2")


# By LyCORIS's and ComfyUI's rules, restated here.


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.1


def _lycoris_glora(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    rows, columns = weight.shape
    a1, a2, b1, b2 = _random(columns, 3), _random(3, columns), _random(rows, 3), _random(3, rows)[:, :columns]
    b2 = _random(3, columns) if rows < columns else b2
    state = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "alpha": torch.tensor(6.0)}
    return state, 2 * (weight @ a1 @ a2 + b1 @ b2)


def _old_glora(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    rows, columns = weight.shape
    a1, a2, b1, b2 = _random(3, columns), _random(columns, 3), _random(3, columns), _random(rows, 3)
    state = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "alpha": torch.tensor(6.0)}
    return state, 2 * (weight @ a2 @ a1 + b2 @ b1)


def _lycoris_oft(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    blocks, rescale = _random(weight.shape[0] // 16, 16, 16), 1 + _random(weight.shape[0], 1)
    skew = (blocks - blocks.transpose(1, 2)).double()
    norm, limit = skew.norm(), 0.01 * weight.shape[0]
    assert norm > limit, "or the constraint is not tested"
    turn = torch.block_diag(
        *(torch.linalg.inv(torch.eye(16) - q) @ (torch.eye(16) + q) for q in skew * limit / norm)
    ).float()
    state = {"oft_blocks": blocks, "alpha": torch.tensor(0.01), "rescale": rescale}
    return state, rescale * (turn.T @ weight) - weight


def _dora_by_column(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    a, b, scale = _random(4, weight.shape[1]), _random(weight.shape[0], 4), 1 + _random(1, weight.shape[1])
    turned = weight + b @ a / 2
    state = {"lora_down.weight": a, "lora_up.weight": b, "alpha": torch.tensor(2.0), "dora_scale": scale}
    return state, scale * turned / turned.norm(dim=0, keepdim=True) - weight


def _difference(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    diff = _random(*weight.shape)
    return {"diff": diff}, diff


@pytest.mark.parametrize("make", [_lycoris_glora, _old_glora, _lycoris_oft, _dora_by_column, _difference])
@pytest.mark.parametrize("target", ["double_blocks.0.img_attn.qkv", "single_blocks.1.linear2"])
def test_merge_follows_lycoris_in_a_fused_layer_of_either_layout(make: Any, target: str, tmp_path: Path) -> None:
    base = single_file("dev")
    state, delta = make(base[f"{target}.weight"])
    file = tmp_path / "lora.safetensors"
    write_tensors(file, {f"lora_unet_{target.replace('.', '_')}.{role}": t for role, t in state.items()})
    wanted = transformer("dev", base | {f"{target}.weight": base[f"{target}.weight"] + delta}).state_dict()
    found = _merged(file, tmp_path, "--arch", "flux2")
    write_tensors(tmp_path / "base.safetensors", base)
    output = tmp_path / "merged.safetensors"
    whole = ["--base", str(tmp_path / "base.safetensors"), "--output", str(output), "--arch", "flux2"]
    assert main(["merge", str(file), *whole]) == 0
    size = delta.norm()
    assert sum(float((found[n] - wanted[n]).norm()) for n in wanted) < 3e-6 * size
    assert float((read_tensors(output)[f"{target}.weight"] - base[f"{target}.weight"] - delta).norm()) < 3e-6 * size


def test_changes_of_norms_and_half_strength_are_merged(tmp_path: Path) -> None:
    base, norm = single_file("dev"), "double_blocks.0.img_attn.norm.query_norm"
    key = next(key for key in base if key.startswith(norm))
    diffs = {key: _random(*base[key].shape), "img_in.weight": _random(*base["img_in.weight"].shape)}
    file, output = tmp_path / "diff.safetensors", tmp_path / "merged.safetensors"
    write_tensors(file, {f"diffusion_model.{name.removesuffix('.weight')}.diff": t for name, t in diffs.items()})
    write_tensors(tmp_path / "base.safetensors", base)
    given = ["--base", str(tmp_path / "base.safetensors"), "--weight", "0.5", "--arch", "flux2"]
    assert main(["merge", str(file), *given, "--output", str(output)]) == 0
    merged = read_tensors(output)
    for name, weight in base.items():
        wanted = weight + diffs[name] / 2 if name in diffs else weight
        assert torch.allclose(merged[name], wanted, atol=1e-7), name
    assert read_adapter_file(file, arch="flux2").changes.kinds() == ["full weight changes", "norm changes"]


# Names


@pytest.mark.parametrize(
    "spelling",
    [
        "base_model.model.transformer.{}.lora_{}.myname.weight",
        "base_model.model.transformer.transformer.{}.lora_{}.weight",
        "transformer.{}.lora_{}.myname.weight",
    ],
)
def test_named_adapters_and_repeated_prefixes_are_read(spelling: str, tmp_path: Path) -> None:
    a, b = _random(4, 64), _random(64, 4)
    file = tmp_path / "adapter_model.safetensors"
    write_tensors(file, {spelling.format(TO_Q, "A"): a, spelling.format(TO_Q, "B"): b})
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    (update,) = read_lora_file(file, arch="flux2").updates.values()
    wanted = 2 * b @ a if "base_model" in spelling else b @ a
    assert torch.allclose(update.delta()[:64], wanted, atol=1e-6)


@pytest.mark.parametrize("spelling", ["lora_unet_{}_.lora_{}.weight", "lora_unet__{}__.lora_{}.weight"])
def test_flattened_names_with_trailing_underscores_are_read(spelling: str, tmp_path: Path) -> None:
    name, a, b = "double_blocks_0_img_attn_proj", _random(4, 64), _random(64, 4)
    file = tmp_path / "lora.safetensors"
    write_tensors(file, {spelling.format(name, "down"): a, spelling.format(name, "up"): b})
    assert set(read_lora_file(file, arch="flux2").updates) == {"double_blocks.0.img_attn.proj"}


def test_two_adapters_in_a_file_are_refused_by_name(tmp_path: Path) -> None:
    state = {
        f"transformer.{layer}.lora_A.{name}.weight": _random(4, 64) for name, layer in (("x", TO_Q), ("y", LINEAR1))
    }
    file = tmp_path / "lora.safetensors"
    write_tensors(file, state | {key.replace("lora_A", "lora_B"): _random(64, 4) for key in state})
    with pytest.raises(UserError, match="several adapters: x, y"):
        read_lora_file(file, arch="flux2")


def test_the_model_that_fits_best_complains_and_text_encoders_are_left_out_by_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = {f"double_blocks.{i}.img_mod.lin": (384, 64) for i in range(36)}  # of FLUX.1; no other model has these
    state: dict[str, Any] = {}
    for name, (rows, columns) in layers.items():
        key = f"lora_unet_{name.replace('.', '_')}"
        state |= {f"{key}.lora_down.weight": _random(4, columns), f"{key}.lora_up.weight": _random(rows, 4)}
    text = {f"lora_te1_text_model_encoder_layers_0_mlp_fc1.{role}": _random(4, 4) for role in ("a", "b", "alpha")}
    text |= {
        f"{part}.lora_down.weight": _random(4, 4) for part in ("clip_l.text_model.a", "t5.encoder.b", "bundle_emb.c")
    }
    file, output = tmp_path / "lora.safetensors", tmp_path / "out.safetensors"
    write_tensors(file, state | text)
    assert main(["info", str(file)]) == 2
    told = capsys.readouterr().err
    assert "closest to a LoRA for FLUX.1" in told
    assert "6 of 78 keys" in told
    assert "--without text_encoder" in told
    assert main(["info", str(file), "--without", "text_encoder"]) == 0
    given = ["--without", "text_encoder", "--format", "diffusers", "--output", str(output)]
    assert main(["convert", str(file), *given]) == 0
    assert len(read_lora_file(output).updates) == 36
