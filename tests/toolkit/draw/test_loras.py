"""toolkit.draw.loras: files of every kind of network draw what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.contract.test_networks import KINDS, train_network
from tests.tiny import tiny_model
from tests.toolkit.networks.test_kinds import predict
from toolkit.config import NetworkConfig
from toolkit.draw.loras import Loras, num_weights, read_for
from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.networks.network import Network
from toolkit.randomness import Draws

OTHERS = ["fullrank", "lora with full changes", "loha", "dora", "oft"]  # not what a LoRA can represent
QUANTIZED = {"quantize": True, "quantize_cache": False}


def _trained(kind: str, path: Path, **model: Any) -> Network:
    network = Network(tiny_model("transformer", **model), NetworkConfig.model_validate(KINDS[kind]), Draws(7))
    network.apply()
    train_network(network)
    save_file(network.state_dict(torch.float32), path)
    return network


def _drawn(model: BaseModel, *files: tuple[Path, float], factor: float = 1.0) -> Tensor:
    loras = Loras(model)
    with loras.attached(files), loras.sampled(factor, 1.0):
        return predict(model)


@pytest.mark.parametrize(("kind", "options"), [*((kind, {}) for kind in OTHERS), ("dora", QUANTIZED)])
def test_a_file_of_any_kind_draws_what_was_trained_at_any_strength(
    kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "network.safetensors"
    network = _trained(kind, path, **options)
    model = tiny_model("transformer", **options)
    base = predict(model)
    size = (predict(network.model) - base).abs().max()
    assert size > 0
    for strength in (1.0, -0.5):
        with network.multiplied(strength):
            wanted = predict(network.model)
        assert (_drawn(model, (path, strength)) - wanted).abs().max() < 0.02 * size
    assert torch.equal(_drawn(model, (path, 1.0)), _drawn(model, (path, 2.0), factor=0.5))
    assert torch.equal(predict(model), base), "nothing stays when they are taken off"
    assert num_weights(model, read_for(model, path), width=4) > 0.5 * network.num_parameters()


def test_a_file_for_other_shapes_is_named_before_the_model_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    network = _trained("loha", path)
    tensors = network.state_dict(torch.float32)
    wide = {key: torch.cat([t, t], dim=-1) if key.endswith(("w1_b", "w2_b")) else t for key, t in tensors.items()}
    save_file(wide, path)
    with pytest.raises(UserError, match=r"wide.safetensors: .* made for another model"):
        read_for(tiny_model(), path)
