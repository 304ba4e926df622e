"""Text encoders in one file, as ComfyUI's users have them: configuration from shapes, tokenizer from elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Klein4BModel, Flux2Model
from extensions_built_in.diffusion_models.flux2.prompt_encoding import encode
from extensions_built_in.diffusion_models.flux2.text_encoder import text_config, text_recipe
from tests import layouts
from tests.tiny import TINY, tiny_config
from tests.tiny_text import write_tiny_mistral
from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles

CPU = torch.device("cpu")
LAYERS = (1, 2, 3)
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 1, "head_dim": 128, "vocab_size": 2048}
RELEASED: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "qwen3": (Qwen3Config, {"rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 40960}),
    "mistral": (
        MistralConfig,
        {"rope_theta": 1e9, "rms_norm_eps": 1e-5, "max_position_embeddings": 131072, "sliding_window": None},
    ),
}


def _whole(kind: str) -> nn.Module:
    """A whole small encoder with the constants of the released ones."""
    torch.manual_seed(0)
    config_class, constants = RELEASED[kind]
    model = (Qwen3ForCausalLM if kind == "qwen3" else MistralForCausalLM)(config_class(**SIZES, **constants))
    with torch.no_grad():  # a fresh norm is all ones and hides a wrong name
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
    return model.eval()


def _write(path: Path, state: dict[str, Tensor]) -> Path:
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path)
    return path


def _load(path: Path, kind: str, *, num_layers: int = 3, hidden_size: int | None = None) -> nn.Module:
    files = ComponentFiles(path, None, (path,))
    recipe = text_recipe(files, kind, num_layers=num_layers, hidden_size=hidden_size)
    return recipe.load(dtype=torch.float32, device=CPU)


def _hidden_states(model: Any) -> tuple[Tensor, ...]:
    ids = torch.arange(20, 60).unsqueeze(0)
    mask = (torch.arange(40) < 30).long().unsqueeze(0)
    with torch.no_grad():
        return tuple(
            model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states
        )


@pytest.mark.parametrize("kind", RELEASED)
def test_a_file_alone_gives_the_hidden_states_of_the_whole_encoder_bit_for_bit(kind: str, tmp_path: Path) -> None:
    whole = _whole(kind)
    # ComfyUI's file of dev's encoder carries its tokenizer as bytes.
    state = {**whole.state_dict(), "tekken_model": torch.zeros(10, dtype=torch.uint8)}
    ours, theirs = _hidden_states(_load(_write(tmp_path / "x.safetensors", state), kind)), _hidden_states(whole.model)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))
    assert len(ours) == 3 + 1


@pytest.mark.parametrize("style", ["newer", "older", "without scales"])
@pytest.mark.parametrize("kind", RELEASED)
def test_an_fp8_file_gives_what_it_stands_for(kind: str, style: str, tmp_path: Path) -> None:
    state = _whole(kind).state_dict()
    written = {"newer": layouts.comfy_scaled, "older": layouts.comfy_scaled_old, "without scales": layouts.plain_fp8}
    stored = {name.removeprefix("model.diffusion_model."): t for name, t in written[style](state).items()}
    loaded = _load(_write(tmp_path / "x.safetensors", stored), kind).state_dict()
    reference = layouts.plain_fp8(state) if style == "without scales" else layouts.scaled(state)
    expected = layouts.unscaled_reference(reference)
    assert all(torch.equal(tensor, expected[f"model.{name}"]) for name, tensor in loaded.items())
    assert any(not torch.equal(tensor, state[f"model.{name}"]) for name, tensor in loaded.items())


@pytest.mark.parametrize("kind", RELEASED)
def test_later_layers_head_and_vision_tower_are_not_even_indexed(kind: str, tmp_path: Path) -> None:
    state = {**_whole(kind).state_dict(), "vision_tower.patch_conv.weight": torch.ones(2, 2)}
    path = _write(tmp_path / "x.safetensors", state)
    entries = text_recipe(ComponentFiles(path, None, (path,)), kind, num_layers=3, hidden_size=None).weights.entries
    assert {name.rpartition(".layers.")[2].split(".")[1] for name in entries if name.startswith("layers")} == set("012")
    assert not any("lm_head" in name or "vision" in name or name.startswith("norm") for name in entries)


@pytest.mark.parametrize(
    ("kind", "num_layers", "vocab", "hidden", "intermediate"),
    [("qwen3", 27, 151936, 2560, 9728), ("qwen3", 27, 151936, 4096, 12288), ("mistral", 30, 131072, 5120, 32768)],
)
def test_the_shapes_of_released_encoders_give_their_configuration(
    kind: str, num_layers: int, vocab: int, hidden: int, intermediate: int
) -> None:
    attention = {f"layers.{i}.self_attn.q_proj.weight": (4096, hidden) for i in range(num_layers)}
    shapes = {
        **attention,
        "embed_tokens.weight": (vocab, hidden),
        "layers.0.self_attn.k_proj.weight": (1024, hidden),
        "layers.0.mlp.gate_proj.weight": (intermediate, hidden),
        **({"layers.0.self_attn.q_norm.weight": (128,)} if kind == "qwen3" else {}),
    }
    place = Path("encoder.safetensors")
    config = text_config(ComponentFiles(place, None, (place,)), shapes, kind, num_layers=num_layers, hidden_size=hidden)
    sizes = (config.vocab_size, config.hidden_size, config.intermediate_size, config.head_dim)
    assert sizes == (vocab, hidden, intermediate, 128)
    assert (config.num_attention_heads, config.num_key_value_heads) == (32, 8)
    theta, eps = (1e6, 1e-6) if kind == "qwen3" else (1e9, 1e-5)
    assert (config.rope_parameters["rope_theta"], config.rms_norm_eps) == (theta, eps)
    assert getattr(config, "sliding_window", None) is None
    assert not config.attention_bias if kind == "qwen3" else True


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("other kind", r"x\.safetensors: a text encoder of type `qwen3`, but this model was trained with `mistral`"),
        ("too shallow", r"of 2 layers, but this model reads layer 3"),
        ("other size", r"of width 32, but this model reads width 2560"),
        ("transformer", r"contains no text encoder of FLUX\.2: embed_tokens\.weight is missing"),
        ("incomplete", r"1 missing: layers\.1\.mlp\.up_proj\.weight"),
        ("nvfp4", r"fewer than 8 bits or as integers"),
        ("truncated", r"cannot be read as safetensors.*download it again"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(damage: str, message: str, tmp_path: Path) -> None:
    state = dict(_whole("qwen3").state_dict())
    if damage == "too shallow":
        state = {
            name: tensor
            for name, tensor in state.items()
            if not name.startswith(("model.layers.2", "model.layers.3", "model.layers.4"))
        }
    elif damage == "transformer":
        state = {"double_blocks.0.img_attn.qkv.weight": torch.ones(2, 2)}
    elif damage == "incomplete":
        del state["model.layers.1.mlp.up_proj.weight"]
    elif damage == "nvfp4":
        state["model.layers.1.mlp.up_proj.weight"] = torch.ones(48, 16, dtype=torch.uint8)
    path = _write(tmp_path / "x.safetensors", state)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=message):
        _load(
            path, "mistral" if damage == "other kind" else "qwen3", hidden_size=2560 if damage == "other size" else None
        )


class _Dev(Flux2Model):
    """Dev with a small encoder."""

    text_layers = LAYERS
    max_text_tokens = 320


class _Klein(Flux2Klein4BModel):
    """Klein with a small encoder."""

    text_layers = LAYERS
    max_text_tokens = 48


def _model(kind: str, place: Path, **options: Any) -> Flux2Model:
    model_class, arch = (_Dev, "flux2") if kind == "mistral" else (_Klein, "flux2_klein_4b")
    return model_class(tiny_config(name_or_path=place, arch=arch, **options), device=CPU, dtype=torch.float32)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_mistral(tmp_path_factory.mktemp("dev"))


@pytest.mark.parametrize("key", ["te_name_or_path", "model_paths", "beside the transformer"])
@pytest.mark.parametrize("kind", RELEASED)
def test_a_file_of_its_own_encodes_prompts_with_the_tokenizer_of_the_model(
    kind: str, key: str, mistral: Path, tmp_path: Path
) -> None:
    tokenizer = (mistral if kind == "mistral" else TINY) / "tokenizer"
    whole = _whole(kind)
    name = "mistral_3_small_flux2_bf16" if kind == "mistral" else "qwen_3_4b"
    model_folder = tmp_path / "model"
    transformer = layouts.small_transformer(guidance_embeds=kind == "mistral")
    place = layouts.write_model(model_folder, "released", transformer, stem="x")
    file = _write((model_folder if key.startswith("beside") else tmp_path) / f"{name}.safetensors", whole.state_dict())
    paths = {"tokenizer": str(tokenizer)}
    if key == "model_paths":
        paths["text_encoder"] = str(file)
    options = {"te_name_or_path": file} if key == "te_name_or_path" else {}
    model = _model(kind, place, model_paths=paths, **options)
    model.check_files()
    model.load("text_encoder")
    embeds = model.get_prompt_embeds(["a red circle"])
    whole_encoder = whole.model
    expected = encode(
        kind, whole_encoder, model.tokenizer, ["a red circle"], layers=LAYERS, max_tokens=model.max_text_tokens
    )
    assert torch.equal(embeds, expected)
    assert len(model.fingerprint("text_encoder")) == 64


def test_the_tokenizer_of_a_models_folder_serves_a_file_beside_it(mistral: Path, tmp_path: Path) -> None:
    shutil.copytree(mistral / "tokenizer", tmp_path / "model" / "tokenizer")
    place = layouts.write_model(
        tmp_path / "model", "diffusers", layouts.small_transformer(guidance_embeds=True), stem="x"
    )
    file = _write(tmp_path / "encoder.safetensors", _whole("mistral").state_dict())
    model = _model("mistral", place, te_name_or_path=file)
    assert model.sources.find("tokenizer").folder == place / "tokenizer"


def test_an_encoder_of_the_wrong_size_is_recognised_by_the_transformers_file(tmp_path: Path) -> None:
    transformer = layouts.small_transformer(guidance_embeds=False, joint_dim=3 * 64)
    place = layouts.write_model(tmp_path / "model", "comfy", transformer, stem="x")
    file = _write(tmp_path / "qwen_3_4b.safetensors", _whole("qwen3").state_dict())
    with pytest.raises(
        UserError, match=r"qwen_3_4b\.safetensors: a text encoder of width 32, but this model reads width 64"
    ):
        _model("qwen3", place, te_name_or_path=file).check_files()


def test_a_tokenizer_that_is_nowhere_is_asked_for_by_key(tmp_path: Path) -> None:
    transformer = layouts.small_transformer(guidance_embeds=False)
    place = layouts.write_model(tmp_path / "model", "released", transformer, stem="x")
    file = _write(tmp_path / "qwen_3_4b.safetensors", _whole("qwen3").state_dict())
    with pytest.raises(
        UserError, match=r"contains no tokenizer, and .*Or set model\.model_paths\.tokenizer to a folder"
    ):
        _model("qwen3", place, te_name_or_path=file).load("text_encoder")
    with pytest.raises(
        UserError, match=r"model\.model_paths\.tokenizer: .* is a single file, but a tokenizer is a fol"
    ):
        _model("qwen3", place, te_name_or_path=file, model_paths={"tokenizer": str(file)}).load("text_encoder")
    with pytest.raises(UserError, match=r"model\.model_paths\.tokenizer: .* contains no tokenizer"):
        _model("qwen3", place, te_name_or_path=file, model_paths={"tokenizer": str(tmp_path)}).load("text_encoder")


def test_a_transformer_alone_in_its_folder_is_no_text_encoder_and_no_vae(tmp_path: Path) -> None:
    transformer = layouts.small_transformer(guidance_embeds=False)
    place = layouts.write_model(tmp_path / "model", "folder of single files", transformer, stem="flux-2-klein-base-4b")
    (place / "ae.safetensors").unlink()
    for component in ("vae", "text_encoder"):
        with pytest.raises(UserError, match=rf"contains no {component}, and black-forest-labs/FLUX\.2-klein-base-4B"):
            _model("qwen3", place).sources.find(component)
