"""extensions_built_in.diffusion_models.flux: what the model computes is what diffusers computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline, FluxPipeline
from PIL import Image
from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

from extensions_built_in.diffusion_models.flux.flux_model import FluxKontextModel, FluxModel
from extensions_built_in.diffusion_models.flux.prompt_encoding import from_rows, to_rows
from tests.tiny import tiny_config
from tests.tiny_flux import KINDS, tiny_flux
from toolkit.cards import find_cards
from toolkit.config import SampleItem
from toolkit.models.condition import Condition, SampleCondition
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.stable_diffusion_model import StableDiffusion

ITEM = SampleItem("a red circle", "", 32, 48, 0, 3.5, 2, 1.0)
Sections = dict[str, dict[str, Any]]


@contextmanager
def _calls(transformer: Any) -> Iterator[list[tuple[dict[str, Any], torch.Tensor]]]:
    """Arguments and output of every forward pass."""
    seen: list[tuple[dict[str, Any], torch.Tensor]] = []

    def note(_: Any, __: Any, arguments: dict[str, Any], output: tuple[torch.Tensor]) -> None:
        seen.append((arguments, output[0]))

    handle = transformer.register_forward_hook(note, with_kwargs=True)
    yield seen
    handle.remove()


def test_every_arch_of_the_folder_is_flux_1_and_hosted_by_stable_diffusion() -> None:
    archs = [arch for arch, card in find_cards().items() if card.family == "flux"]
    assert set(archs) == {"flux", "flux_kontext"}
    for kind in (FluxModel, FluxKontextModel):
        config = tiny_config(arch=kind.arch)
        model = kind(config, device=torch.device("cpu"), dtype=torch.float32)
        assert isinstance(model, StableDiffusion)
        assert config.is_flux
        assert model.is_flux
        assert model.is_flow_matching
        assert not model.is_flux2
        assert not config.is_flux2


@pytest.mark.parametrize("kind", KINDS)
def test_our_forward_is_that_of_the_pipeline(kind: str, sections: Sections) -> None:
    model = tiny_flux(sections[kind], "text_encoder", "vae", "transformer")
    embeds = {ITEM.prompt: model.get_prompt_embeds([ITEM.prompt])[0]}
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    shown = [Image.fromarray(pixels)] if kind == "kontext" else []
    references = [model.encode_images(torch.tensor(pixels).permute(2, 0, 1)[None] / 127.5 - 1) for _ in shown]
    with torch.no_grad(), _calls(model.transformer) as theirs:
        pipeline = model.get_generation_pipeline()
        condition = SampleCondition(embeds, references=shown)
        image = model.generate_single_image(pipeline, ITEM, condition, torch.Generator().manual_seed(1))
    assert image.size == (32, 48)
    assert type(pipeline) is (FluxKontextPipeline if kind == "kontext" else FluxPipeline)
    assert len(theirs) == 2
    for arguments, output in theirs:
        noisy = FluxPipeline._unpack_latents(arguments["hidden_states"][:, :6], 48, 32, 8)
        with torch.no_grad(), _calls(model.transformer) as ours:
            velocity = model.get_noise_prediction(
                noisy,
                1000 * arguments["timestep"],
                Condition(embeds[ITEM.prompt][None], guidance=ITEM.guidance_scale, references=references),
            )
        ((called, _),) = ours
        for name in ("img_ids", "txt_ids", "encoder_hidden_states", "pooled_projections"):
            assert torch.equal(called[name], arguments[name]), name
        assert (called["guidance"] is None) == (arguments["guidance"] is None) == (kind == "schnell")
        assert torch.allclose(called["hidden_states"], arguments["hidden_states"], atol=1e-4)
        expected = FluxPipeline._unpack_latents(output[:, :6], 48, 32, 8)
        assert velocity.shape == noisy.shape
        assert (velocity - expected).norm() <= 1e-5 * expected.norm()
    times = theirs[0][0]["img_ids"][:, 0].unique().tolist()
    assert times == ([0, 1] if kind == "kontext" else [0])


@pytest.mark.parametrize("kind", ["dev", "schnell"])
def test_the_guidance_embedding_can_be_left_out(kind: str, sections: Sections) -> None:
    model = tiny_flux(sections[kind], "transformer")
    noisy, embeds = torch.randn(1, 16, 4, 4), torch.randn(1, 9, 32)

    def predict(guidance: float, *, bypass: bool = False) -> torch.Tensor:
        condition = Condition(embeds, guidance=guidance, bypass_guidance_embedding=bypass)
        with torch.no_grad():
            return model.get_noise_prediction(noisy, torch.tensor([500.0]), condition)

    assert torch.equal(predict(1.0), predict(4.0)) == (kind == "schnell")
    bypassed = predict(1.0, bypass=True)
    assert torch.equal(bypassed, predict(4.0, bypass=True))
    if kind == "dev":
        embedder = model.transformer.time_text_embed.guidance_embedder.linear_2
        torch.nn.init.zeros_(embedder.weight)
        torch.nn.init.zeros_(embedder.bias)
    assert torch.allclose(predict(1.0), bypassed, atol=1e-6)


def test_a_reference_changes_the_prediction_of_its_own_sample_only(sections: Sections) -> None:
    model = tiny_flux(sections["kontext"], "transformer")
    torch.manual_seed(0)
    noisy, embeds, reference = torch.randn(2, 16, 4, 4), torch.randn(2, 9, 32), torch.randn(2, 16, 4, 6)
    other = reference.clone()
    other[1] += 1
    timestep = torch.tensor([300.0, 700.0])
    with torch.no_grad():
        conditions = (Condition(embeds, references=[shown]) for shown in (reference, other))
        one, two = (model.get_noise_prediction(noisy, timestep, condition) for condition in conditions)
    assert torch.allclose(one[0], two[0], atol=1e-5)
    assert not torch.allclose(one[1], two[1], atol=1e-4)


@pytest.mark.parametrize(("kind", "length"), [("dev", 512), ("schnell", 256), ("kontext", 512)])
def test_prompts_are_encoded_as_the_pipeline_encodes_them(kind: str, length: int, sections: Sections) -> None:
    folder = Path(sections[kind]["name_or_path"])
    pipeline = FluxPipeline(
        scheduler=None,
        vae=None,
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=T5EncoderModel.from_pretrained(folder / "text_encoder_2"),
        tokenizer_2=AutoTokenizer.from_pretrained(folder / "tokenizer_2"),
        transformer=None,
    )
    prompts = ["a red circle", "", "a long tale " * 100]
    with torch.no_grad():
        text, pooled, _ = pipeline.encode_prompt(prompts, max_sequence_length=length)
    model = tiny_flux(sections[kind], "text_encoder")
    assert model.max_text_tokens == length
    assert not model.text_encoder.training
    ours = model.get_prompt_embeds(prompts)
    assert ours.shape == (3, length + 1, 32)
    our_text, our_pooled = from_rows(ours, 16)
    assert torch.allclose(our_text, text, atol=1e-5)
    assert torch.allclose(our_pooled, pooled, atol=1e-5)
    assert not torch.allclose(our_pooled[0], our_pooled[1])
    with torch.no_grad():
        assert torch.equal(model.get_prompt_embeds(prompts[:1])[0], model.get_prompt_embeds(prompts[:1])[0])


def test_the_rows_of_a_prompt_hold_both_encodings() -> None:
    text, pooled = torch.randn(2, 5, 8), torch.randn(2, 3)
    rows = to_rows(text, pooled)
    assert rows.shape == (2, 6, 8)
    assert all(torch.equal(*pair) for pair in zip(from_rows(rows, 3), (text, pooled), strict=True))


def test_a_prompt_that_is_too_long_is_cut_where_t5_stops_reading(sections: Sections) -> None:
    model = tiny_flux(sections["schnell"])
    assert model.cut_prompt("x" * 255) is None  # and the end token
    cut = model.cut_prompt("x" * 255 + "yz")
    assert cut is not None
    assert (cut.num_tokens, cut.max_tokens, cut.kept, cut.lost) == (258, 256, "x" * 255, "yz")
    assert model.text_encoder is None


def test_encode_and_decode_are_what_diffusers_does(sections: Sections) -> None:
    model = tiny_flux(sections["dev"], "vae")
    pixels = torch.rand(2, 3, 32, 64) * 2 - 1
    pipeline = FluxKontextPipeline(
        scheduler=None,
        vae=model.vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=None,
    )
    with torch.no_grad():
        expected = pipeline._encode_vae_image(pixels, generator=None)
        direct = model.vae.decode(model.vae.encode(pixels).latent_dist.mode()).sample
    latents = model.encode_images(pixels)
    assert latents.shape == (2, 16, 4, 8)
    assert torch.equal(latents, expected)
    assert torch.allclose(model.decode_latents(latents), direct, atol=1e-5)
    assert model.num_tokens(64, 32) == 8


@pytest.mark.parametrize("qtype", ["qfloat8", "qint4"])
def test_quantization_reaches_the_blocks_and_t5_and_stays_close(qtype: str, sections: Sections) -> None:
    plain = tiny_flux(sections["dev"], "text_encoder", "transformer")
    small = tiny_flux(
        sections["dev"], "text_encoder", "transformer", quantize=True, quantize_te=True, qtype=qtype, qtype_te=qtype
    )
    quantized = [name for name, module in small.transformer.named_modules() if isinstance(module, FrozenLinear)]
    assert set(quantized) == set(plain.get_quantizable_layers("transformer", plain.transformer))
    embeds, other = (model.get_prompt_embeds(["a red circle"]) for model in (plain, small))
    limit = 0.1 if qtype == "qfloat8" else 0.6
    assert 0 < (embeds - other).norm() < limit * embeds.norm()
    noisy, timestep = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([500.0])
    with torch.no_grad():
        one, two = (model.get_noise_prediction(noisy, timestep, Condition(embeds)) for model in (plain, small))
    assert 0 < (one - two).norm() < limit * one.norm()


def test_fingerprints_tell_encoders_and_formats_apart_and_share_the_vae(sections: Sections) -> None:
    dev, schnell, kontext = (tiny_flux(sections[kind]) for kind in ("dev", "schnell", "kontext"))
    assert dev.fingerprint("vae") == schnell.fingerprint("vae") == kontext.fingerprint("vae")
    assert dev.fingerprint("transformer") != schnell.fingerprint("transformer")
    assert dev.fingerprint("text_encoder") == kontext.fingerprint("text_encoder")
    assert dev.fingerprint("text_encoder") != schnell.fingerprint("text_encoder")  # shorter prompts
    bf16 = tiny_flux(sections["dev"], te_dtype="bf16")
    assert bf16.fingerprint("text_encoder") != dev.fingerprint("text_encoder")
