"""What a step multiplies, keeps and dispatches: counts that are the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.counts import Operators, count_flops, count_kept, floor_of
from benchmarks.random_model import empty_transformer, random_recipe
from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.loading import Build
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from tests.live_bytes import LiveBytes
from tests.tiny import tiny_config
from toolkit.config import NetworkConfig
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.runtime import devices
from toolkit.runtime.devices import autocast

CPU, HIDDEN, RANK, TEXT, SIDE = torch.device("cpu"), 512, 16, 128, 12
TOKENS = TEXT + SIDE**2
UNIT = TOKENS * HIDDEN * 2  # bytes of a residual stream in bf16
BUILD = Build(hidden=HIDDEN, joint_dim=256, num_double=1, num_single=1, has_guidance=False)


@dataclass
class Step:
    """Forward and backward of a small transformer in bf16, with a LoRA on every linear layer of its blocks."""

    model: Any
    network: Network

    def forward(self) -> Tensor:
        latents, embeds = torch.ones(1, 128, SIDE, SIDE), torch.ones(1, TEXT, 256, dtype=torch.bfloat16)
        with autocast(CPU, torch.bfloat16):
            return predict_velocity(self.model.transformer, latents, torch.full((1,), 0.4), embeds, guidance=1.0)

    def run(self) -> None:
        for parameter in self.network.parameters():
            parameter.grad = None
        self.forward().float().square().mean().backward()


def made(mode: str, build: Build = BUILD, *, only: str = "") -> Step:
    """The step of a job in a mode, `keep` or `recompute`, with a LoRA on all layers or only on those named so."""
    model: Any = Flux2TinyModel(tiny_config(), device=CPU, dtype=torch.bfloat16)
    model.transformer = random_recipe(empty_transformer(build)).load(dtype=torch.bfloat16, device=CPU)
    chosen = {"network_kwargs": {"only_if_contains": [only]}} if only else {}
    network = Network(model, NetworkConfig.model_validate({"type": "lora", "linear": RANK, **chosen}), Draws(0))
    network.apply()
    model.transformer.train()
    model.prepare_backward(recomputes=mode == "recompute")
    return Step(model, network)


def per_block(count: Callable[[Step], int], mode: str, kind: str, build: Build = BUILD) -> int:
    """The count of one more block of a kind, `num_single` or `num_double`."""
    more = replace(build, num_single=2) if kind == "num_single" else replace(build, num_double=2)
    return count(made(mode, more)) - count(made(mode, build))


def kept(step: Step) -> int:
    transformer = step.model.transformer
    return count_kept(step.forward, shared=[*transformer.parameters(), *transformer.buffers()])[0]


def operators(step: Step) -> int:
    with Operators() as seen:
        step.run()
    return seen.total


def flops(step: Step) -> float:
    floor = floor_of(step.model.transformer, rank=RANK, num_text=TEXT, num_image=SIDE**2)
    return count_flops(step.run) / floor.total


# mode -> the most residual streams that a single and a double block keep for backward.
KEPT = {"keep": (11.5, 12.5), "recompute": (2.5, 3.5)}
# mode -> the most operators of a single and of a double block, forward and backward; autograd's are 139 and 422.
OPERATORS = {"keep": (60, 172), "recompute": (60, 185)}
# mode -> the most products, over the floor; 1.46 if blocks are recomputed as a whole. A backward pass that keeps no
# more than `KEPT` has to make the wide projections again: 2 more for 9 of 13 weights.
FLOPS = {"keep": 1.0, "recompute": 1.26}


@pytest.mark.parametrize("mode", KEPT)
def test_blocks_keep_little_for_backward(mode: str) -> None:
    single, double = (per_block(kept, mode, kind) / UNIT for kind in ("num_single", "num_double"))
    assert single <= KEPT[mode][0]
    assert double <= KEPT[mode][1]


@pytest.mark.parametrize("mode", OPERATORS)
def test_blocks_run_few_operators(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_bf16_products", lambda: True)  # without, casts come on top
    small = replace(BUILD, hidden=128)  # the count is the same
    single, double = (per_block(operators, mode, kind, small) for kind in ("num_single", "num_double"))
    assert single <= OPERATORS[mode][0]
    assert double <= OPERATORS[mode][1]


@pytest.mark.parametrize("mode", FLOPS)
def test_a_step_multiplies_no_more_than_it_must(mode: str) -> None:
    assert flops(made(mode, replace(BUILD, num_double=2, num_single=6))) <= FLOPS[mode]


@pytest.mark.parametrize("mode", FLOPS)
def test_below_the_first_adapted_block_nothing_is_multiplied_in_backward(mode: str) -> None:
    build = replace(BUILD, hidden=128, num_double=2, num_single=6)
    late = made(mode, build, only="single_blocks.4")
    alone = made(mode, replace(build, num_double=0, num_single=2), only="single_blocks.0")
    with torch.no_grad():
        below = count_flops(late.forward) - count_flops(alone.forward)
    assert count_flops(late.run) == below + count_flops(alone.run)


@pytest.mark.parametrize("mode", FLOPS)
def test_nothing_in_a_pass_waits_for_the_device(mode: str) -> None:
    step = made(mode)
    with Operators() as seen:
        step.run()
    assert seen.host_reads == 0


@pytest.mark.parametrize("mode", FLOPS)
def test_nothing_is_kept_after_the_backward_pass_though_its_graph_is(mode: str) -> None:
    step = made(mode, replace(BUILD, num_single=4))
    with LiveBytes() as live:
        step.run()  # weights and gradients are seen
        before = live.now
        velocity = step.forward()
        velocity.float().square().mean().backward()
        assert live.now - before < 2 * UNIT
