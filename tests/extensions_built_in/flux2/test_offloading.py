from __future__ import annotations

import torch

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from tests.tiny import tiny_config, tiny_model
from toolkit.models.condition import Condition
from toolkit.models.options import ModelOptions


def test_a_streamed_text_encoder_encodes_the_same_bit_for_bit() -> None:
    prompts = ["a red circle", "two blue squares"]
    plain = tiny_model("text_encoder")
    streamed = tiny_model("text_encoder", layer_offloading=True)
    line = streamed.loader.describe("text_encoder")
    layers = len(plain.list_blocks(plain.text_encoder))
    assert line is not None and f"{layers} of {layers} blocks" in line
    assert torch.equal(streamed.get_prompt_embeds(prompts), plain.get_prompt_embeds(prompts))
    streamed.free("text_encoder")
    assert streamed.loader.describe("text_encoder") is None


def test_the_transformers_blocks_are_listed_in_the_order_of_its_forward_pass() -> None:
    model = tiny_model("transformer")
    called: list[str] = []
    names = model.list_blocks(model.transformer)
    for name in names:
        model.transformer.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
    model.get_noise_prediction(torch.randn(1, 64, 2, 2), torch.full((1,), 500.0), Condition(torch.randn(1, 48, 192)))
    assert called == names


def test_auto_asks_what_the_plan_resolved() -> None:
    config = tiny_config(layer_offloading=True, layer_offloading_transformer_percent="auto")
    options = ModelOptions(offload_shares={"transformer": 0.5})
    model = Flux2TinyModel(config, device=torch.device("cpu"), dtype=torch.float32, options=options)
    model.load("transformer")
    count = len(model.list_blocks(model.transformer))
    line = model.loader.describe("transformer")
    assert line is not None and f"of {count} blocks" in line and f"{count} of {count}" not in line
