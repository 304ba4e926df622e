"""What the plan expects of each kind of network, held against storages counted while it runs on fake tensors.

A LoRA is in test_step_memory. Twenty seconds together: each case is a step of klein 4B's blocks at 1024 pixels.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.live_bytes import LiveBytes, family_of, frozen_transformer, norms_as_on_cuda
from tests.tiny import tiny_config
from tests.toolkit.plan.test_step_memory import planned_bytes, size_of
from toolkit.config.network import NetworkConfig
from toolkit.networks.choices import NETWORKS
from toolkit.networks.network import Network
from toolkit.networks.part import Part
from toolkit.plan.of_job.network import network_inputs
from toolkit.randomness import Draws
from toolkit.runtime.devices import autocast
from toolkit.util.get_model import model_classes

ARCH, SIDE_PX, DOUBLE, SINGLE = "flux2_klein_4b", 1024, 1, 2
KINDS: dict[str, dict[str, Any]] = {
    "lokr": {},
    "loha": {"linear": 8},
    "dora": {},
    "oft": {"linear": 32},
}
CASES = [
    *(
        pytest.param(kind, torch.bfloat16, recomputes, id=f"{kind} {recomputes}")
        for kind in KINDS
        for recomputes in (True, False)
    ),
    *(pytest.param(kind, torch.float32, True, id=f"{kind} fp32") for kind in ("lokr", "oft")),
]


def _counted_bytes(config: NetworkConfig, *, dtype: torch.dtype, recomputes: bool) -> int:
    """The most that a step adds to the weights of a model and its network."""
    family = family_of(ARCH)
    with FakeTensorMode(allow_non_fake_inputs=True), norms_as_on_cuda(dtype != torch.float32), LiveBytes() as live:
        transformer = frozen_transformer(ARCH, dtype=dtype, num_double=DOUBLE, num_single=SINGLE)
        model = model_classes()[ARCH](tiny_config(arch=ARCH), device=torch.device("cpu"), dtype=dtype)
        model.transformer = transformer
        Network(model, config, Draws(0)).apply()
        transformer.train()
        if recomputes:
            transformer.enable_gradient_checkpointing()
        before = live.peak = live.now
        side = SIDE_PX // 16
        latents, embeds = torch.empty(1, 128, side, side), torch.empty(1, 512, 7680, dtype=dtype)
        with autocast(torch.device("cpu"), dtype):
            velocity = family.predict_velocity(
                transformer, latents, torch.empty(1), embeds, guidance=1.0, references=[]
            )
        (velocity.float() - latents).square().mean().backward()
        return live.peak - before


@pytest.mark.parametrize(("kind", "dtype", "recomputes"), CASES)
def test_a_step_of_each_kind_needs_what_is_planned(
    kind: str, dtype: torch.dtype, recomputes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Part, "to", lambda part, device: part)  # fake tensors cannot be swapped
    config = NetworkConfig.model_validate({"type": kind, **KINDS[kind]})
    size = size_of(ARCH, double=DOUBLE, single=SINGLE)
    options = network_inputs(config, size.transformer, is_mixed=dtype != torch.float32)
    planned = planned_bytes(size, side_px=SIDE_PX, width=dtype.itemsize, recomputes=recomputes, **options)
    assert planned == pytest.approx(_counted_bytes(config, dtype=dtype, recomputes=recomputes), rel=0.05)


def test_every_kind_is_held_against_its_plan_or_planned_as_a_full_fine_tune() -> None:
    assert {*KINDS, "lora", "fullrank"} == set(NETWORKS)
