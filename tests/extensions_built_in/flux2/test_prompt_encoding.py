"""extensions_built_in.diffusion_models.flux2.prompt_encoding"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import Flux2KleinPipeline, Flux2Pipeline
from transformers import Mistral3ForConditionalGeneration

from extensions_built_in.diffusion_models.flux2.card import CARDS
from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2Model
from extensions_built_in.diffusion_models.flux2.prompt_encoding import load_tokenizer
from tests.tiny import TINY, tiny_config, tiny_model
from tests.tiny_text import LAYERS, write_tiny_mistral
from toolkit.encode.packing import pack, unpack
from toolkit.errors import UserError

PROMPTS = ["a red circle", "", "two [IMG] lines\nand a word", "long " * 200]
MAX_TOKENS = 320  # dev's system message alone has 180 of this tokenizer's tokens


@pytest.fixture(scope="module")
def dev_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_mistral(tmp_path_factory.mktemp("dev"))


def _dev_model(folder: Path, *, dtype: torch.dtype = torch.float32, **options: object) -> Flux2Model:
    class TinyDev(Flux2Model):
        """Dev with an encoder of five layers."""

        text_layers = LAYERS
        max_text_tokens = MAX_TOKENS

    config = tiny_config(name_or_path=folder, arch="flux2", **options)
    return TinyDev(config, device=torch.device("cpu"), dtype=dtype)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_dev_encodes_a_prompt_exactly_as_diffusers_with_the_whole_encoder(dev_folder: Path, prompt: str) -> None:
    model = _dev_model(dev_folder)
    model.load("text_encoder")
    whole = Mistral3ForConditionalGeneration.from_pretrained(dev_folder / "text_encoder", dtype=torch.float32).eval()
    pipeline = Flux2Pipeline(scheduler=None, vae=None, transformer=None, text_encoder=whole, tokenizer=model.tokenizer)
    expected, _ = pipeline.encode_prompt(prompt, max_sequence_length=MAX_TOKENS, text_encoder_out_layers=LAYERS)
    embeds = model.get_prompt_embeds([prompt])
    assert embeds.shape == (1, MAX_TOKENS, 3 * 32)
    assert torch.equal(embeds, expected)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_klein_encodes_a_prompt_exactly_as_diffusers_with_the_whole_encoder(prompt: str) -> None:
    model = tiny_model("text_encoder")
    pipeline = Flux2KleinPipeline.from_pretrained(TINY, transformer=None, vae=None, dtype=torch.float32)
    expected, _ = pipeline.encode_prompt(prompt, max_sequence_length=model.max_text_tokens)
    assert torch.equal(model.get_prompt_embeds([prompt]), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_padding_of_dev_is_one_row_and_only_the_prompt_is_stored(dev_folder: Path, dtype: torch.dtype) -> None:
    model = _dev_model(dev_folder, dtype=dtype)
    model.load("text_encoder")
    short, long = (model.get_prompt_embeds([prompt])[0] for prompt in ("a dog", "a dog beside a cat"))
    assert torch.equal(short[0], long[0])
    assert short[0].count_nonzero() > 0
    parts = pack(long)
    num_padding, num_repeated_at_the_end = parts["repeats"].tolist()
    num_tokens = len(model.tokenizer(model.render_prompt(model.tokenizer, "a dog beside a cat"))["input_ids"])
    assert (num_padding, num_repeated_at_the_end) == (MAX_TOKENS - num_tokens, 1)
    assert torch.equal(unpack(parts).tensor(), long)
    assert sum(part.nbytes for part in parts.values()) < 0.95 * (num_tokens + 1) / MAX_TOKENS * long.nbytes + 1000


def test_padding_of_klein_sees_the_prompt_and_is_stored() -> None:
    model = tiny_model("text_encoder")
    one, other = (model.get_prompt_embeds([prompt])[0] for prompt in ("a red circle", "a blue square"))
    assert not torch.equal(one[-1], other[-1])
    assert not torch.equal(one[-1], one[-2])
    assert torch.equal(unpack(pack(one)).tensor(), one)


@pytest.mark.parametrize("qtype", ["qfloat8", "qint8"])
def test_a_quantized_encoder_is_close_and_has_cache_entries_of_its_own(qtype: str) -> None:
    plain = tiny_model("text_encoder")
    quantized = tiny_model("text_encoder", quantize_te=True, qtype_te=qtype)
    exact, close = (model.get_prompt_embeds(["a red circle"]) for model in (plain, quantized))
    assert 0 < (exact - close).norm() < 0.2 * exact.norm()
    assert plain.fingerprint("text_encoder") != quantized.fingerprint("text_encoder")


def test_a_long_prompt_of_dev_is_cut_where_the_encoder_stops_reading(dev_folder: Path) -> None:
    model = _dev_model(dev_folder)
    assert model.cut_prompt("a dog") is None
    prompt = "".join(f"word{number} " for number in range(60)).strip()
    cut = model.cut_prompt(prompt)
    assert cut is not None
    assert model.text_encoder is None, "no weights are loaded for it"
    assert cut.kept + cut.lost == prompt
    rendered = model.render_prompt(model.tokenizer, prompt)
    read = model.tokenizer(rendered, truncation=True, max_length=MAX_TOKENS, add_special_tokens=False)["input_ids"]
    assert model.tokenizer.decode(read).endswith(cut.kept[-20:])


def test_a_long_prompt_of_klein_is_cut_where_the_encoder_stops_reading() -> None:
    model = tiny_model()
    prompt = "a red circle " * 10 + "and a blue square " * 10
    cut = model.cut_prompt(prompt)
    assert cut is not None
    assert cut.kept + cut.lost == prompt.strip()
    assert cut.max_tokens == 48 < cut.num_tokens
    rendered = model.render_prompt(model.tokenizer, prompt)
    read = model.tokenizer(rendered, truncation=True, max_length=48)["input_ids"]
    assert model.tokenizer.decode(read).endswith(cut.kept[-20:])


def test_an_encoder_at_the_root_of_its_own_folder_is_read_with_the_models_tokenizer(
    dev_folder: Path, tmp_path: Path
) -> None:
    encoder = shutil.copytree(dev_folder / "text_encoder", tmp_path / "Mistral-Small-3.2")
    (encoder / "tekken.json").write_text("{}")
    beside, apart = _dev_model(dev_folder), _dev_model(dev_folder, te_name_or_path=encoder)
    for model in (beside, apart):
        model.load("text_encoder")
    assert torch.equal(beside.get_prompt_embeds(["a dog"]), apart.get_prompt_embeds(["a dog"]))


def test_a_folder_of_an_image_processor_gives_its_tokenizer(dev_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(dev_folder, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "tokenizer"
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"processor_class": "PixtralProcessor", "tokenizer_class": "LlamaTokenizerFast", "padding_side": "right"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "PixtralProcessor"}))
    processor = {"image_processor_type": "PixtralImageProcessor", "processor_class": "PixtralProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()
    plain, ours = _dev_model(dev_folder), _dev_model(tmp_path)
    for model in (plain, ours):
        model.load("text_encoder")
    assert ours.tokenizer.padding_side == "left"
    assert torch.equal(plain.get_prompt_embeds(["a dog"]), ours.get_prompt_embeds(["a dog"]))


def test_an_encoder_that_does_not_fit_the_transformer_beside_it_is_refused(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "model")
    config = tmp_path / "model" / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "joint_attention_dim": 3 * 4096}))
    with pytest.raises(UserError, match=r"of width 64, but this model reads width 4096"):
        tiny_model("text_encoder", name_or_path=tmp_path / "model")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.arch)
def test_the_card_knows_the_size_of_an_encoded_prompt(card: object) -> None:
    from toolkit.cards import ModelCard
    from toolkit.config import ModelConfig
    from toolkit.util.get_model import get_model_class

    assert isinstance(card, ModelCard)
    config = ModelConfig.model_validate({"name_or_path": card.source, "arch": card.arch})
    model_class = get_model_class(config)
    length, width = card.prompt_embeds_shape
    assert length == model_class.max_text_tokens
    assert width % 3 == 0
    if card.arch == "flux2_tiny":
        assert tiny_model("text_encoder").get_prompt_embeds(["x"]).shape == (1, length, width)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(TINY / "tokenizer", tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize("name", ["chat_template.json", "processor_config.json"])
def test_a_chat_template_in_a_file_of_the_processor_is_found(folder: Path, name: str) -> None:
    template = folder / "chat_template.jinja"
    text = template.read_text()
    template.unlink()
    (folder / name).write_text(json.dumps({"chat_template": text}))
    assert load_tokenizer(folder, padding_side="right").chat_template == text


def test_a_tokenizer_without_chat_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"has no chat template.*chat_template\.jinja"):
        load_tokenizer(folder, padding_side="right")


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the tokenizer cannot be loaded"):
        load_tokenizer(tmp_path, padding_side="right")


def test_padding_stands_on_the_side_that_the_model_wants(folder: Path) -> None:
    assert load_tokenizer(folder, padding_side="left").padding_side == "left"
    assert load_tokenizer(folder, padding_side="right").padding_side == "right"
