"""Layers that LyCORIS 4.1.3 wrote, against what its own forward pass makes of the weight.

`lycoris.safetensors` holds one linear layer of 12 x 8 (`weight`), and of each variant the tensors that its module
saved, W' - W and b' - b as its forward pass shows them on the unit vectors. All is random: normal numbers times 0.3,
magnitudes and rescales 1 + 0.3 of one, `use_scalar` 0.7, rank 4, alpha 2 (LoKr: rank 1, alpha 0.5), an OFT in blocks of
3, bound at 0.05 and at 5 per output.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.lora.parse import parse_changes
from toolkit.lora.update import LayerLocation
from toolkit.weights.tensor_files import read_tensors

FILE = Path(__file__).with_name("lycoris.safetensors")
VARIANTS = {
    "locon": "LoRA", "locon, rs": "LoRA", "dora on out": "DoRA", "dora on in": "DoRA",
    "loha": "LoHa", "loha, scalar": "LoHa", "loha, dora on out": "DoRA of LoHa", "loha, dora on in": "DoRA of LoHa",
    "lokr": "LoKr", "lokr, both": "LoKr", "lokr, full": "LoKr", "lokr, dora on in": "DoRA of LoKr",
    "glora": "GLoRA", "glora, rank of the rows": "GLoRA", "full": "full weight changes",
    "oft": "OFT", "oft, bound": "OFT", "oft, loose": "OFT", "oft, rescaled": "OFT", "oft, bound and rescaled": "OFT",
}  # fmt: skip


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return read_tensors(FILE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_layer_of_lycoris_changes_its_weight_as_lycoris_does(variant: str, tensors: dict[str, Tensor]) -> None:
    own = {key.partition("|")[2]: tensor for key, tensor in tensors.items() if key.startswith(f"{variant}|")}
    wanted, bias = own.pop("delta"), own.pop("bias delta")
    place = LayerLocation("layer")
    file = {f"lycoris_layer.{role}": tensor for role, tensor in own.items()}
    changes = parse_changes(file, {}, lambda name: place if name == "layer" else None)
    assert changes.kinds()[0] == VARIANTS[variant]
    found = changes.weights[place].delta(tensors["weight"])
    # The stored differences were taken in fp32, beside weights that are up to four times as large.
    assert float((found - wanted).norm() / wanted.norm()) < 5e-6
    torch.testing.assert_close(changes.biases.get(place, torch.zeros_like(bias)), bias, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "factor"),
    [
        ('{"algo": "glora", "rs_lora": "True"}', 2.0),  # sqrt of rank 4
        ('{"algo": "glora", "rs_lora": false}', 1.0),
        ("no JSON", 1.0),
        ("[1]", 1.0),
    ],
)
def test_a_glora_that_was_trained_with_rs_lora_has_the_strength_that_its_header_says(
    arguments: str, factor: float, tensors: dict[str, Tensor]
) -> None:
    place = LayerLocation("layer")
    for variant, wanted in (("glora", factor), ("loha", 1.0)):
        own = {key.partition("|")[2]: tensor for key, tensor in tensors.items() if key.startswith(f"{variant}|")}
        file = {f"lycoris_layer.{role}": tensor for role, tensor in own.items() if "delta" not in role}
        changes = parse_changes(file, {"ss_network_args": arguments}, lambda name: place if name == "layer" else None)
        found = changes.weights[place].delta(tensors["weight"])
        assert float((found - wanted * own["delta"]).norm() / own["delta"].norm()) < 1e-5, variant
