from __future__ import annotations

import torch

from tests.tiny import tiny_model
from toolkit.models.condition import Condition


def test_a_streamed_text_encoder_encodes_the_same_bit_for_bit() -> None:
    prompts = ["a red circle", "two blue squares"]
    plain = tiny_model("text_encoder")
    streamed = tiny_model("text_encoder", layer_offloading=True)
    line = streamed.holding.describe("text_encoder")
    layers = len(plain.list_blocks(plain.text_encoder))
    assert line is not None and f"{layers} of {layers} blocks" in line
    assert torch.equal(streamed.get_prompt_embeds(prompts), plain.get_prompt_embeds(prompts))
    streamed.free("text_encoder")
    assert streamed.holding.describe("text_encoder") is None


def test_the_transformers_blocks_are_listed_in_the_order_of_its_forward_pass() -> None:
    model = tiny_model("transformer")
    called: list[str] = []
    names = model.list_blocks(model.transformer)
    for name in names:
        model.transformer.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
    model.get_noise_prediction(torch.randn(1, 64, 2, 2), torch.full((1,), 500.0), Condition(torch.randn(1, 48, 192)))
    assert called == names


def test_auto_asks_what_the_plan_resolved() -> None:
    model = tiny_model(layer_offloading=True, layer_offloading_transformer_percent="auto")
    model.holding.resolve_auto = lambda component: 0.5
    model.load("transformer")
    count = len(model.list_blocks(model.transformer))
    line = model.holding.describe("transformer")
    assert line is not None and f"of {count} blocks" in line and f"{count} of {count}" not in line
