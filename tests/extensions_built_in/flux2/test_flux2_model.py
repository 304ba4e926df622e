"""extensions_built_in.diffusion_models.flux2.flux2_model"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PreTrainedTokenizerFast

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Model
from tests.tiny import TINY, tiny_config, tiny_model
from toolkit.config import SampleItem
from toolkit.errors import UserError

ITEM = SampleItem("a red circle", "blurry", 32, 32, 0, 4.0, 2, 1.0)


def test_every_arch_of_the_folder_is_flux2() -> None:
    model = tiny_model()
    assert model.is_flux2
    assert model.is_flow_matching
    assert model.model_config.is_flux2
    assert model.get_bucket_divisibility() == 16
    assert model.num_tokens(128, 64) == 8 * 4
    assert model.get_transformer_block_names() == ["double_blocks", "single_blocks"]


def test_prompts_are_encoded_as_diffusers_pipeline_encodes_them() -> None:
    from diffusers import Flux2KleinPipeline

    model = tiny_model("text_encoder")
    pipeline = Flux2KleinPipeline.from_pretrained(TINY, transformer=None, vae=None, dtype=torch.float32)
    expected, _ = pipeline.encode_prompt("a red circle", max_sequence_length=model.max_text_tokens)
    assert torch.equal(model.get_prompt_embeds(["a red circle"]), expected)


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
    assert model.prompts_of(ITEM) == ("a red circle", "blurry")
    assert model.prompts_of(SampleItem("a red circle", "blurry", 32, 32, 0, 1.0, 2, 1.0)) == ("a red circle",)


def test_a_sample_is_the_same_each_time() -> None:
    model = tiny_model("text_encoder", "vae", "transformer")
    embeds = {prompt: model.get_prompt_embeds([prompt])[0] for prompt in model.prompts_of(ITEM)}
    pipeline = model.get_generation_pipeline()
    one, other = (
        model.generate_single_image(pipeline, ITEM, embeds, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert one.size == (32, 32)
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("qtype", ["qfloat8", "qint8", "qint4"])
def test_quantization_reaches_every_block_layer_and_stays_close(qtype: str) -> None:
    from optimum.quanto import QModuleMixin

    plain, quantized = tiny_model("transformer"), tiny_model("transformer", quantize=True, qtype=qtype)
    layers = {
        module: quantized.transformer.get_submodule(module)
        for target in plain.get_lora_targets()
        if "_blocks." in target.name
        for module in target.modules
    }
    assert layers
    assert all(isinstance(layer, QModuleMixin) for layer in layers.values())
    arguments = (torch.randn(1, 64, 2, 2), torch.tensor([500.0]), torch.randn(1, 48, 192))
    with torch.no_grad():
        exact, close = plain.get_noise_prediction(*arguments), quantized.get_noise_prediction(*arguments)
    assert not torch.equal(exact, close)
    assert (exact - close).norm() < (0.5 if qtype == "qint4" else 0.1) * exact.norm()


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


def test_dev_encodes_prompts_with_its_system_message_on_the_left(tmp_path: Path) -> None:
    _write_tiny_mistral(tmp_path)
    model = Flux2Model(
        tiny_config(arch="flux2", te_name_or_path=tmp_path), device=torch.device("cpu"), dtype=torch.float32
    )
    model.text_layers, model.max_text_tokens = (1, 2, 3), 96  # type: ignore[misc]
    model.load("text_encoder")
    from diffusers import Flux2Pipeline

    pipeline = Flux2Pipeline(
        scheduler=None, vae=None, transformer=None, text_encoder=model.text_encoder, tokenizer=model.tokenizer
    )
    expected, _ = pipeline.encode_prompt("a red circle", max_sequence_length=96, text_encoder_out_layers=(1, 2, 3))
    embeds = model.get_prompt_embeds(["a red circle"])
    assert embeds.shape == (1, 96, 3 * 32)
    assert torch.allclose(embeds, expected, atol=1e-6)


def _write_tiny_mistral(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    bpe.train_from_iterator([], trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet))
    template = (
        "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]"
        "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}"
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        chat_template=template,
        model_max_length=4096,
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    text = {
        "model_type": "mistral",
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        "sliding_window": None,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "intermediate_size": 16,
        "image_size": 32,
        "patch_size": 16,
        "num_channels": 3,
    }
    torch.manual_seed(0)
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=8, vision_feature_layer=-1)
    Mistral3ForConditionalGeneration(config).save_pretrained(folder / "text_encoder")
