"""Blocks that are compiled one by one, streamed and recomputed, with LoRA in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tests.toolkit.memory.late_stream import LateStream
from tests.toolkit.memory.test_layer_offload import QuantizedSetup, Setup, _equal
from tests.toolkit.memory.test_side_stream import _one_step
from toolkit.memory.layer_offload import LayerOffload


@pytest.fixture(autouse=True)
def _no_compiled_code_is_left() -> Iterator[None]:
    yield
    torch.compiler.reset()


ALL = slice(None)
ONE_OF_EACH_KIND = slice(1, 3)  # the last double block, and the first single block
ONE = slice(2, 3)  # between blocks that are not compiled


def _two_steps(kind: type[Setup], share: float, *, checkpointing: bool, compiled: slice) -> tuple[list[Tensor], int]:
    """What they give, and how many graphs were compiled."""
    torch.compiler.reset()
    counters.clear()
    setup = kind(share, checkpointing=checkpointing, kind=partial(LayerOffload, is_compiled=True))
    setup.offload._stream = LateStream("late")
    for block in setup.blocks[compiled]:
        block.compile(backend="aot_eager")
    results = [*_one_step(setup), *_one_step(setup)]
    assert not counters["graph_break"]
    return results, counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(
    ("kind", "checkpointing", "compiled"),
    [
        pytest.param(Setup, True, ALL, id="plain recomputed", marks=pytest.mark.torture),
        pytest.param(QuantizedSetup, False, ALL, id="quantized kept", marks=pytest.mark.torture),
        pytest.param(QuantizedSetup, False, ONE_OF_EACH_KIND, id="one of each kind", marks=pytest.mark.torture),
        pytest.param(QuantizedSetup, False, ONE, id="one, quantized kept"),
    ],
)
def test_compiled_blocks_learn_the_same_streamed_or_not(
    kind: type[Setup], checkpointing: bool, compiled: slice
) -> None:
    options: dict[str, Any] = {"checkpointing": checkpointing, "compiled": compiled}
    resident, num_graphs = _two_steps(kind, 0, **options)
    streamed, num_graphs_of_streamed = _two_steps(kind, 1, **options)
    assert _equal(streamed, resident)
    assert num_graphs_of_streamed == num_graphs > 0, "blocks of a kind share their code, wherever their weights are"
