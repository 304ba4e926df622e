"""What products in 8 bits do to the gradients of a LoRA on a small FLUX.2, also with rows that are 20 times larger."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tests.lora_gradients import lora_gradients
from tests.tiny import tiny_model
from toolkit.compute.use import use_compute
from toolkit.models.base_model import BaseModel
from toolkit.quantize.fill import quantize_layer

COMPUTE_OF = {"int8": "int8", "convrot8": "int8", "float8": "fp8"}
OUTLIERS, TIMES = 2, 20


def _model(qtype: str | None, *, outliers: int) -> BaseModel:
    """The tiny model with random block linears, some of whose rows are enlarged; fp32 without `qtype`.

    Not with its trained weights: if their rows are enlarged, its attention jumps at any rounding of the weights.
    """
    model, generator = tiny_model("transformer"), torch.Generator().manual_seed(0)
    for name in model.get_quantizable_layers("transformer", model.transformer):
        weight = model.transformer.get_submodule(name).weight
        weight.data = torch.randn(weight.shape, generator=generator) * 0.02
        weight.data[torch.randperm(len(weight), generator=generator)[:outliers]] *= TIMES
        if qtype is not None:
            quantize_layer(model.transformer, name, qtype)
    if qtype is not None:
        assert use_compute(model.transformer, COMPUTE_OF[qtype]) > 0
    return model


def _gradients(model: BaseModel) -> Mapping[str, Tensor]:
    """The gradient of each adapter, A and B in one vector."""
    found: dict[str, list[Tensor]] = {}
    for name, gradient in lora_gradients(model, side=4).items():
        found.setdefault(name.partition(".lora_")[0], []).append(gradient.flatten())
    return {name: torch.cat(parts) for name, parts in found.items()}


@pytest.mark.parametrize("qtype", COMPUTE_OF)
@pytest.mark.parametrize("outliers", [0, OUTLIERS])
def test_every_gradient_points_where_it_does_in_fp32(qtype: str, outliers: int) -> None:
    exact, found = _gradients(_model(None, outliers=outliers)), _gradients(_model(qtype, outliers=outliers))
    assert exact.keys() == found.keys()
    cosines = {name: float(cosine_similarity(exact[name], found[name], dim=0)) for name in exact}
    assert min(cosines.values()) >= 0.99, min(cosines.items(), key=lambda item: item[1])
