"""extensions_built_in.diffusion_models.flux2.flux2_model"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.tiny import TINY, tiny_model
from toolkit.config import SampleItem
from toolkit.errors import UserError
from toolkit.models.condition import Condition, SampleCondition
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.quantize.qtypes import QTYPES

ITEM = SampleItem("a red circle", "blurry", 32, 32, 0, 4.0, 2, 1.0)


def test_every_arch_of_the_folder_is_flux2() -> None:
    model = tiny_model()
    assert model.is_flux2
    assert model.is_flow_matching
    assert model.model_config.is_flux2
    assert model.get_bucket_divisibility() == 16
    assert model.num_tokens(128, 64) == 8 * 4
    assert model.get_transformer_block_names() == ["double_blocks", "single_blocks"]


def test_components_are_loaded_and_freed_one_by_one() -> None:
    model = tiny_model()
    model.load("vae")
    assert model.vae is not None
    assert model.text_encoder is None
    assert model.transformer is None
    model.free("vae")
    assert model.vae is None


def test_a_loaded_model_is_frozen() -> None:
    model = tiny_model("transformer")
    assert not model.get_model_has_grad()


def test_fingerprints_tell_weights_and_formats_apart(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(TINY, copy)
    same, original = tiny_model(name_or_path=copy), tiny_model()
    assert same.fingerprint("vae") == original.fingerprint("vae")
    assert tiny_model(te_dtype="bf16").fingerprint("text_encoder") != original.fingerprint("text_encoder")
    weights = next((copy / "vae").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert same.fingerprint("vae") != original.fingerprint("vae")


def test_a_negative_prompt_is_encoded_only_where_guidance_uses_it() -> None:
    model = tiny_model()
    assert ITEM.prompts(model.card) == ("a red circle", "blurry")
    assert SampleItem("a red circle", "blurry", 32, 32, 0, 1.0, 2, 1.0).prompts(model.card) == ("a red circle",)


def test_a_sample_is_the_same_each_time() -> None:
    model = tiny_model("text_encoder", "vae", "transformer")
    embeds = {prompt: model.get_prompt_embeds([prompt])[0] for prompt in ITEM.prompts(model.card)}
    pipeline = model.get_generation_pipeline()
    one, other = (
        model.generate_single_image(pipeline, ITEM, SampleCondition(embeds), torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert one.size == (32, 32)
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("qtype", QTYPES)
def test_quantization_reaches_every_block_layer_and_stays_close(qtype: str) -> None:
    plain, quantized = tiny_model("transformer"), tiny_model("transformer", quantize=True, qtype=qtype)
    layers = {
        module: quantized.transformer.get_submodule(module)
        for target in plain.get_lora_targets()
        if "_blocks." in target.name
        for module in target.modules
    }
    assert layers
    assert all(isinstance(layer, FrozenLinear) for layer in layers.values())
    arguments = (torch.randn(1, 64, 2, 2), torch.tensor([500.0]), Condition(torch.randn(1, 48, 192)))
    with torch.no_grad():
        exact, close = plain.get_noise_prediction(*arguments), quantized.get_noise_prediction(*arguments)
    assert not torch.equal(exact, close)
    largest = {8.0: 0.1, 2.25: 1.0}.get(QTYPES[qtype].bits_per_weight, 0.5)
    assert (exact - close).norm() < largest * exact.norm()


@pytest.mark.parametrize("damage", ["no transformer", "truncated", "other shapes"])
def test_weights_that_cannot_be_used_are_named(tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "model"
    shutil.copytree(TINY, copy)
    weights = next((copy / "transformer").glob("*.safetensors"))
    if damage == "no transformer":
        shutil.rmtree(copy / "transformer")
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    else:
        config = copy / "transformer" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "num_attention_heads": 2}))
    with pytest.raises(UserError, match=str(copy)):
        tiny_model("transformer", name_or_path=copy)


def test_a_model_out_of_reach_is_explained() -> None:
    model = tiny_model(name_or_path="black-forest-labs/FLUX.2-klein-base-4B")
    with pytest.raises(UserError, match=r"FLUX\.2-klein-base-4B cannot be downloaded.*local folder"):
        model.load("vae")
