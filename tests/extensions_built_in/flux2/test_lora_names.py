"""extensions_built_in.diffusion_models.flux2.lora_names, with what diffusers and ComfyUI make of the files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from diffusers import Flux2Pipeline, Flux2Transformer2DModel
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Model
from extensions_built_in.diffusion_models.flux2.lora_names import FORMATS, layers_of, targets, write
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from tests.comfy import apply_lora
from tests.golden.models import single_file, transformer
from toolkit.errors import UserError
from toolkit.lora.parse import parse
from toolkit.lora.update import Update, distance, fuse, norm, swap_halves
from toolkit.weights.tensor_files import read_metadata, read_tensors, write_tensors

Updates = dict[str, Update]
BLOCKS = ("double_blocks.", "single_blocks.")
ADALN = "final_layer.adaLN_modulation.1"
QKV = "double_blocks.0.img_attn.qkv"


def _random(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator) * 0.1


def _updates(*, rank: int = 4, is_split: bool = False, outer: bool = False) -> Updates:
    """An update of every layer of the dev-type model; with `is_split`, q, k and v have A and ranks of their own."""
    generator, result = torch.Generator().manual_seed(3), {}
    base = single_file("dev")
    for target in targets(transformer("dev")):
        if not outer and not target.name.startswith(BLOCKS):
            continue
        out, into = base[f"{target.name}.weight"].shape
        if is_split and len(target.modules) == 3:
            parts = {
                i: Update(_random(rank + i, into, generator), _random(out // 3, rank + i, generator)) for i in range(3)
            }
            result[target.name] = fuse(parts, 3)
        else:
            result[target.name] = Update(_random(rank, into, generator), _random(out, rank, generator))
    return result


def _velocity(model: Flux2Transformer2DModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents, embeds = torch.randn(1, 128, 3, 2, generator=generator), torch.randn(1, 5, 48, generator=generator)
    with torch.no_grad():
        return predict_velocity(model, latents, torch.tensor([0.4]), embeds, guidance=3.0)


def _expected(updates: Updates) -> Tensor:
    state = single_file("dev")
    for target, update in updates.items():
        state[f"{target}.weight"] = state[f"{target}.weight"] + update.delta()
    return _velocity(transformer("dev", state))


def _error(found: Tensor, expected: Tensor) -> float:
    """Relative to what the LoRA does at all."""
    return float((found - expected).norm() / (expected - _velocity(transformer("dev"))).norm())


def _in_diffusers(state: dict[str, Tensor], folder: Path, metadata: dict[str, str] | None = None) -> Tensor:
    write_tensors(folder / "lora.safetensors", state, metadata or {"format": "pt"})
    parts = {"scheduler": None, "vae": None, "text_encoder": None, "tokenizer": None}
    pipeline = Flux2Pipeline(transformer=transformer("dev"), **parts)
    pipeline.load_lora_weights(str(folder), weight_name="lora.safetensors")
    return _velocity(pipeline.transformer)


def _in_comfy(state: dict[str, Tensor], *, is_new: bool = True) -> tuple[Tensor, list[str]]:
    merged, unused = apply_lora(single_file("dev"), state, is_new=is_new)
    return _velocity(transformer("dev", merged)), unused


def _read(state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Updates:
    return parse(state, metadata or {}, Flux2Model.locate_layer)


def _same(one: Updates, other: Updates, tolerance: float = 1e-6) -> bool:
    return one.keys() == other.keys() and all(distance(one[n], other[n]) <= tolerance * norm(one[n]) for n in one)


def _renamed(state: dict[str, Tensor], *pairs: tuple[str, str]) -> dict[str, Tensor]:
    result = {}
    for key, tensor in state.items():
        for old, new in pairs:
            key = key.replace(old, new)
        result[key] = tensor
    return result


def _scaled(
    state: dict[str, Tensor], factor: float, down_up: tuple[str, str] = ("lora_A", "lora_B")
) -> dict[str, Tensor]:
    """B divided by a factor that alpha, stored elsewhere, restores."""
    return {key: tensor / factor if down_up[1] in key else tensor for key, tensor in state.items()}


def _with_alpha(state: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """`.alpha` beside every pair, such that the file means the same as before."""
    alphas = {
        key.replace(".lora_A.weight", ".alpha"): torch.tensor(factor * tensor.shape[0])
        for key, tensor in state.items()
        if key.endswith(".lora_A.weight")
    }
    return _scaled(state, factor) | alphas


# What we write


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("file_format", FORMATS)
def test_diffusers_reads_every_format_without_a_warning(
    file_format: str, is_split: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    updates = _updates(is_split=is_split)
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        found = _in_diffusers(write(updates, file_format), tmp_path)
    assert caplog.records == []
    assert _error(found, _expected(updates)) < 1e-5


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize(
    ("file_format", "is_new"), [(name, True) for name in FORMATS] + [("bfl", False), ("kohya", False)]
)
def test_comfyui_uses_every_key(file_format: str, is_new: bool, is_split: bool) -> None:
    updates = _updates(is_split=is_split)
    found, unused = _in_comfy(write(updates, file_format), is_new=is_new)
    assert unused == []
    assert _error(found, _expected(updates)) < 1e-5


def test_comfyui_before_2026_ignores_part_of_diffusers_names() -> None:
    _, unused = _in_comfy(write(_updates(), "diffusers"), is_new=False)
    # Per double block 4 layers of the feed-forward nets, per single block 2 layers; two keys each.
    assert len(unused) == 2 * (2 * 4 + 2 * 2)


@pytest.mark.parametrize("file_format", ["bfl", "diffusers"])
def test_layers_outside_the_blocks_survive_in_diffusers(file_format: str, tmp_path: Path) -> None:
    updates = _updates(outer=True)
    assert _error(_in_diffusers(write(updates, file_format), tmp_path), _expected(updates)) < 1e-4


def test_layers_outside_the_blocks_survive_in_comfyui() -> None:
    updates = _updates(outer=True)
    found, unused = _in_comfy(write(updates, "bfl"))
    assert unused == []
    assert _error(found, _expected(updates)) < 1e-4


def test_layers_that_diffusers_drops_from_kohya_files_are_not_written_there() -> None:
    with pytest.raises(UserError, match=r"guidance_in.*cannot be written as `kohya`"):
        write(_updates(outer=True), "kohya")


def test_the_final_modulation_is_right_for_comfyui_in_bfl_and_for_diffusers_in_its_own_names(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    updates = {ADALN: Update(_random(4, 64, generator), _random(128, 4, generator))}
    with pytest.raises(UserError, match=r"adaLN_modulation.*Write the file as `bfl`"):
        write(updates, "kohya")
    expected = _expected(updates)
    assert _error(_in_diffusers(write(updates, "diffusers"), tmp_path), expected) < 1e-5
    bfl = write(updates, "bfl")
    assert _error(_in_comfy(bfl)[0], expected) < 1e-5
    assert _error(_in_diffusers(bfl, tmp_path), expected) > 0.5  # the trap: if this fails, diffusers was mended
    assert _same(_read(bfl), updates)
    assert _same(_read(write(updates, "diffusers")), updates)


def test_a_file_of_every_layer_is_right_for_comfyui_and_in_diffusers_but_for_the_swapped_halves(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    modulation = Update(_random(4, 64, generator), _random(128, 4, generator))
    updates = {**_updates(outer=True), ADALN: modulation}
    expected = _expected(updates)
    assert _same(_read(write(updates, "diffusers")), updates)
    assert _error(_in_diffusers(write(updates, "diffusers"), tmp_path), expected) < 1e-5
    bfl = write(updates, "bfl")
    assert _error(_in_comfy(bfl)[0], expected) < 1e-5
    swapped = {**updates, ADALN: Update(modulation.a, swap_halves(modulation.b))}
    assert _error(_in_diffusers(bfl, tmp_path), _expected(swapped)) < 1e-5


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_is_read_back(file_format: str, is_split: bool) -> None:
    updates = _updates(is_split=is_split)
    read = _read(write(updates, file_format))
    assert _same(read, updates)
    assert {name: u.rank for name, u in read.items()} == {name: u.rank for name, u in updates.items()}


def test_layers_trained_apart_are_written_apart_with_their_own_ranks() -> None:
    state = write(_updates(is_split=True), "diffusers")
    ranks = [state[f"transformer.{layer}.lora_A.weight"].shape[0] for layer in layers_of(QKV)]
    assert ranks == [4, 5, 6]


def test_a_layer_without_an_update_among_fused_ones_is_left_out() -> None:
    generator = torch.Generator().manual_seed(0)
    only_k = fuse({1: Update(_random(4, 64, generator), _random(64, 4, generator))}, 3)
    state = write({QKV: only_k}, "diffusers")
    assert list(state) == [f"transformer.{layers_of(QKV)[1]}.lora_{part}.weight" for part in "AB"]
    assert _same(_read(state), {QKV: only_k})


def test_no_format_has_keys_that_diffusers_refuses() -> None:
    for file_format in ("bfl", "diffusers"):
        assert not any(key.endswith(".alpha") for key in write(_updates(), file_format))


# What others write


@pytest.mark.parametrize(
    "pairs",
    [
        (("diffusion_model.", "base_model.model."),),
        (("diffusion_model.", ""),),
        (("lora_A", "lora_down"), ("lora_B", "lora_up")),
        (("lora_A.weight", "lora_A.default.weight"), ("lora_B.weight", "lora_B.default.weight")),
        (("diffusion_model.", "model.diffusion_model."),),
    ],
    ids=["peft-wrapped", "bare", "dots with down and up", "adapter name", "checkpoint prefix"],
)
def test_spellings_of_released_names_that_some_programs_ignore_are_read(pairs: tuple[tuple[str, str], ...]) -> None:
    updates = _updates()
    assert _same(_read(_renamed(write(updates, "bfl"), *pairs)), updates)


@pytest.mark.parametrize(
    "pairs",
    [
        (("transformer.", "diffusion_model."),),
        (("transformer.", ""),),
        (("transformer.transformer_blocks", "base_model.model.transformer_blocks"),),
    ],
)
def test_spellings_of_diffusers_names_are_read(pairs: tuple[tuple[str, str], ...]) -> None:
    updates = _updates(is_split=True)
    assert _same(_read(_renamed(write(updates, "diffusers"), *pairs)), updates)


@pytest.mark.parametrize("written", ["transformer.{}.lora_A.weight", "lycoris_{}.lora_down.weight"])
def test_diffusers_names_of_fused_layers_are_read(written: str) -> None:
    updates = {name: update for name, update in _updates().items() if "attn.qkv" in name}
    state: dict[str, Tensor] = {}
    for name, update in updates.items():
        layer = f"transformer_blocks.{name.split('.')[1]}.attn.to_{'' if 'img' in name else 'added_'}qkv"
        key = written.format(layer if "." in written[:12] else layer.replace(".", "_"))
        state |= {key: update.a, key.replace("lora_A", "lora_B").replace("down", "up"): update.b}
    assert _same(_read(state), updates)


@pytest.mark.parametrize("prefix", ["lycoris_", "lora_transformer_", "lora_unet_"])
def test_underscored_names_of_diffusers_are_read(prefix: str) -> None:
    updates, state = _updates(), {}
    for key, tensor in write(updates, "diffusers").items():
        name, _, part = key.removeprefix("transformer.").partition(".lora_")
        state[f"{prefix}{name.replace('.', '_')}.lora_{'down' if part[0] == 'A' else 'up'}.weight"] = tensor
    assert _same(_read(state), updates)


@pytest.mark.parametrize("file_format", ["bfl", "diffusers"])
def test_alpha_beside_pairs_that_diffusers_refuses_is_folded_in(file_format: str, tmp_path: Path) -> None:
    updates = _updates()
    state = _with_alpha(write(updates, file_format), 2.0)
    with pytest.raises(ValueError):
        _in_diffusers(state, tmp_path)
    assert _same(_read(state), updates)


def test_kohyas_alpha_is_folded_in() -> None:
    updates = _updates()
    state = {key: t * 2 if key.endswith(".alpha") else t for key, t in write(updates, "kohya").items()}
    assert _same(_read(_scaled(state, 2.0, ("lora_down", "lora_up"))), updates)


def test_alpha_in_the_header_that_comfyui_ignores_is_folded_in(tmp_path: Path) -> None:
    updates, expected = _updates(), _expected(_updates())
    state = _scaled(write(updates, "diffusers"), 2.0)
    settings = {
        "transformer.r": 4,
        "transformer.lora_alpha": 8,
        "transformer.target_modules": [layer for target in updates for layer in layers_of(target)],
    }
    header = {"lora_adapter_metadata": json.dumps(settings)}
    assert _same(_read(state, header), updates)
    assert _error(_in_diffusers(state, tmp_path, header), expected) < 1e-5
    assert _error(_in_comfy(state)[0], expected) > 0.1


def test_alpha_of_single_layers_in_the_header_is_read() -> None:
    updates = _updates()
    header = {
        "transformer.lora_alpha": 4,
        "transformer.alpha_pattern": {"single_transformer_blocks.0.attn.to_out": 12},
    }
    read = _read(write(updates, "diffusers"), {"lora_adapter_metadata": json.dumps(header)})
    changed = [name for name in updates if distance(read[name], updates[name]) > 1e-6 * norm(updates[name])]
    assert changed == ["single_blocks.0.linear2"]
    assert norm(read[changed[0]]) == pytest.approx(3 * norm(updates[changed[0]]))


def test_a_file_that_diffusers_itself_saved_is_read(tmp_path: Path) -> None:
    updates = _updates(is_split=True)
    parts = {"scheduler": None, "vae": None, "text_encoder": None, "tokenizer": None}
    pipeline = Flux2Pipeline(transformer=transformer("dev"), **parts)
    pipeline.load_lora_weights(write(updates, "bfl"), adapter_name="mine")
    pipeline.transformer.save_lora_adapter(tmp_path, adapter_name="mine")
    path = tmp_path / "pytorch_lora_weights.safetensors"
    assert _same(_read(read_tensors(path), read_metadata(path)), updates)


def test_lokr_is_expanded_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    w1, w2_a, w2_b = _random(4, 4, generator), _random(48, 2, generator), _random(2, 16, generator)
    state = {
        "lycoris_double_blocks_0_img_attn_qkv.lokr_w1": w1,
        "lycoris_double_blocks_0_img_attn_qkv.lokr_w2_a": w2_a,
        "lycoris_double_blocks_0_img_attn_qkv.lokr_w2_b": w2_b,
        "lycoris_double_blocks_0_img_attn_qkv.alpha": torch.tensor(1.0),
        "diffusion_model.single_blocks.0.linear2.lokr_w1": w1,
        "diffusion_model.single_blocks.0.linear2.lokr_w2": _random(16, 64, generator),
        # ai-toolkit's number for "no rank": infinite in fp16, without meaning here.
        "diffusion_model.single_blocks.0.linear2.alpha": torch.tensor(float("inf")),
    }
    read = _read(state)
    assert torch.allclose(read[QKV].delta(), torch.kron(w1, w2_a @ w2_b) * 0.5, atol=1e-7)
    full = state["diffusion_model.single_blocks.0.linear2.lokr_w2"]
    assert torch.allclose(read["single_blocks.0.linear2"].delta(), torch.kron(w1, full), atol=1e-7)


# What cannot be read


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("diffusion_model.single_blocks.0.linear2.dora_scale", "DoRA"),
        ("transformer.single_transformer_blocks.0.attn.to_out.lora_magnitude_vector", "DoRA"),
        ("diffusion_model.single_blocks.0.linear2.magnitude", "DoRA"),
        ("diffusion_model.single_blocks.0.linear2.hada_w1_a", "LoHa"),
        ("diffusion_model.single_blocks.0.linear2.diff", "full weight changes"),
    ],
)
def test_what_is_no_lora_is_refused_and_named(key: str, kind: str) -> None:
    with pytest.raises(UserError, match=rf"1 of 41 keys.*{kind}.*\n  {key}"):
        _read(write(_updates(), "bfl") | {key: torch.ones(2, 2)})


def test_unknown_keys_are_counted_and_listed() -> None:
    state = {f"diffusion_model.other.{i}.lora_A.weight": torch.ones(1, 1) for i in range(7)}
    with pytest.raises(UserError, match=r"7 of 7 keys.*\n(  diffusion_model.other.\d.*\n){5}.*2 more"):
        _read(state)


def test_half_a_pair_and_a_layer_given_twice_are_refused() -> None:
    state = write(_updates(), "bfl")
    with pytest.raises(UserError, match="incomplete"):
        _read({key: t for key, t in state.items() if key != f"diffusion_model.{QKV}.lora_B.weight"})
    with pytest.raises(UserError, match="twice"):
        _read(state | write({QKV: _updates()[QKV]}, "diffusers"))
    with pytest.raises(UserError, match="twice"):
        _read(state | write({QKV: _updates()[QKV]}, "kohya"))


# What other programs overlook or mistake: why we never write it. If one of these fails, that program was mended.


@pytest.mark.parametrize(
    "pairs",
    [
        (("lora_A", "lora_down"), ("lora_B", "lora_up")),  # dots with down and up
        (("diffusion_model.", ""),),
        (("diffusion_model.", "some_other_model."),),
    ],
)
def test_diffusers_takes_some_spellings_and_loads_nothing(pairs: tuple[tuple[str, str], ...], tmp_path: Path) -> None:
    state = _renamed(write(_updates(), "bfl"), *pairs)
    assert torch.equal(_in_diffusers(state, tmp_path), _velocity(transformer("dev")))


def test_a_wrapped_file_works_in_diffusers_and_not_in_comfyui(tmp_path: Path) -> None:
    updates = _updates()
    state = _renamed(write(updates, "bfl"), ("diffusion_model.", "base_model.model."))
    assert _error(_in_diffusers(state, tmp_path), _expected(updates)) < 1e-5
    assert _in_comfy(state)[1] == sorted(state)


@pytest.mark.parametrize(
    ("file_format", "pairs"),
    [("bfl", (("diffusion_model.", ""),)), ("diffusers", (("transformer.", "diffusion_model."),))],
)
def test_comfyui_ignores_other_prefixes(file_format: str, pairs: tuple[tuple[str, str], ...]) -> None:
    state = _renamed(write(_updates(), file_format), *pairs)
    assert _in_comfy(state)[1] == sorted(state)


def test_alpha_beside_pairs_is_understood_by_comfyui() -> None:
    updates = _updates()
    found, unused = _in_comfy(_with_alpha(write(updates, "bfl"), 2.0))
    assert unused == []
    assert _error(found, _expected(updates)) < 1e-5


def test_diffusers_drops_guidance_and_modulation_from_kohya_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocks, outer = _updates(), _updates(outer=True)
    state = write(blocks, "kohya")
    for name in ("guidance_in.in_layer", "double_stream_modulation_img.lin"):
        key = f"lora_unet_{name.replace('.', '_')}"
        update = outer[name]
        state |= {f"{key}.lora_down.weight": update.a, f"{key}.lora_up.weight": update.b}
        state[f"{key}.alpha"] = torch.tensor(float(update.rank))
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        found = _in_diffusers(state, tmp_path)
    assert caplog.records
    assert _error(found, _expected(blocks)) < 1e-5, "only the blocks are there"
    assert set(_read(state)) == {*blocks, "guidance_in.in_layer", "double_stream_modulation_img.lin"}


def test_diffusers_makes_a_plain_lora_of_a_dora(tmp_path: Path) -> None:
    updates = _updates()
    key = f"diffusion_model.{QKV}.dora_scale"
    state = write(updates, "bfl") | {key: torch.full((192, 1), 3.0)}
    assert _error(_in_diffusers(state, tmp_path), _expected(updates)) < 1e-5, "as if there were no magnitudes"
    with pytest.raises(UserError, match="DoRA"):
        _read(state)


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("transformer.", "transformer_blocks.0.attn.to_k"),
        ("", "transformer_blocks.0.attn.to_k"),
        ("lycoris_", "transformer_blocks_0_attn_to_k"),
        ("diffusion_model.", "double_blocks.0.img_attn.qkv"),
        ("lycoris_", "double_blocks_0_img_attn_qkv"),
    ],
)
def test_lokr_is_read_under_all_of_its_names(prefix: str, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    is_part = "to_k" in name
    w1, w2 = _random(4, 4, generator), _random(16 if is_part else 48, 16, generator)
    state = {f"{prefix}{name}.lokr_w1": w1, f"{prefix}{name}.lokr_w2": w2}
    expected = torch.zeros(192, 64)
    expected[slice(64, 128) if is_part else slice(None)] = torch.kron(w1, w2)
    assert torch.allclose(_read(state)[QKV].delta(), expected, atol=1e-7)


def test_alpha_of_lokr_counts_only_where_a_factor_is_of_low_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    w1, w2 = _random(4, 4, generator), _random(48, 16, generator)
    state = {f"diffusion_model.{QKV}.lokr_w1": w1, f"diffusion_model.{QKV}.lokr_w2": w2}
    with_alpha = state | {f"diffusion_model.{QKV}.alpha": torch.tensor(8.0)}
    assert torch.equal(_read(with_alpha)[QKV].delta(), _read(state)[QKV].delta())


def test_no_file_of_ours_has_a_header_from_which_diffusers_would_rebuild_the_adapter(tmp_path: Path) -> None:
    updates = _updates(is_split=True)
    for file_format in FORMATS:
        state = write(updates, file_format)
        # Ranks are told from the tensors alone: 4, 5 and 6 in one file, or their sum.
        assert _error(_in_diffusers(state, tmp_path), _expected(updates)) < 1e-5
        assert "lora_adapter_metadata" not in read_metadata(tmp_path / "lora.safetensors")
