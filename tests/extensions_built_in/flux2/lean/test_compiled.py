"""The backward pass written by hand with compiled pieces, against the same without."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from extensions_built_in.diffusion_models.lean.compiled import compiled_pieces
from extensions_built_in.diffusion_models.lean.pieces import Pieces
from tests.extensions_built_in.flux2.lean.test_gradients import adapted, drawn, errors, results
from toolkit.compute.compiler import Compiler

BUCKETS = [(height, width) for height in (2, 3, 5, 8) for width in (2, 4, 7)]


@pytest.fixture(autouse=True)
def _no_compiled_code_is_left() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.fixture
def _machine_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A C++ compiler, of which the tests' environment has none."""
    if shutil.which("g++") is None:
        pytest.skip("this machine has no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # Headers compiled ahead only pay for many programs, and code for vectors takes the compiler seconds.
    with inductor.patch({"cpp.cxx": (None, "g++"), "cpp.simdlen": 1, "cpp_cache_precompile_headers": False}):
        yield


def compiler(said: list[str], backend: str) -> Compiler:
    return Compiler(notify=said.append, warn=lambda line: said.append(f"warning: {line}"), backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "line"),
    [
        # Five seconds: torch traces each piece once for each way in which blocks call it.
        ({"network_kwargs": {"only_if_contains": ["single_blocks"]}}, "of 6 blocks, 6 are compiled"),
        pytest.param({}, "of 6 blocks, 6 are compiled", marks=pytest.mark.torture),
    ],
    ids=["single blocks", "all"],
)
def test_twelve_buckets_take_the_graphs_of_the_first(network: dict[str, Any], line: str) -> None:
    model, trained = adapted(network=network, quantize=True, qtype="int8", quantize_te=False, quantize_cache=False)
    said: list[str] = []
    wanted = results(model, trained)
    model.prepare_backward(recomputes=True, keeps=1.5)
    model.compile_blocks(compiler(said, "eager"))
    assert max(errors(results(model, trained), wanted)) < 1e-5
    counts = []
    for height, width in BUCKETS:
        latents, embeds = drawn(1, 64, height, width, seed=1), drawn(1, 48, 192, seed=2)
        predict_velocity(model.transformer, latents, torch.full((1,), 0.4), embeds, guidance=1.0).sum().backward()
        counts.append(counters["stats"]["unique_graphs"])
    assert said == [f"model.compile: {line}"]
    assert not counters["graph_break"]
    assert counts == [counts[0]] * len(BUCKETS)


@pytest.mark.torture
@pytest.mark.usefixtures("_machine_code")
@pytest.mark.parametrize("keeps", [0.0, 1.0, 2.0])
def test_gradients_are_as_near_to_exact_ones_as_those_of_the_pieces_as_written(keeps: float) -> None:
    model, trained = adapted()
    model.prepare_backward(recomputes=True, keeps=keeps)
    exact = [results(model, trained, batch=batch) for batch in (1, 2)]
    rounded = errors(results(model, trained, dtype=torch.bfloat16), exact[0])
    said: list[str] = []
    model.compile_blocks(compiler(said, "inductor"))
    for batch, wanted in zip((1, 2), exact, strict=True):
        assert max(errors(results(model, trained, batch=batch), wanted)) < 1e-5
    assert sum(errors(results(model, trained, dtype=torch.bfloat16), exact[0])) <= 1.05 * sum(rounded)
    assert said == ["model.compile: of 6 blocks, 6 are compiled"]


@pytest.mark.slow
@pytest.mark.usefixtures("_machine_code")
def test_what_is_written_over_what_is_read_is_right_as_machine_code() -> None:
    # Seconds: a program is made by the C++ compiler.
    said: list[str] = []
    plain = Pieces()
    fast = compiled_pieces(compiler(said, "inductor"), plain)
    for num_tokens in (5, 12):
        gradient, values = drawn(1, num_tokens, 24, seed=1), drawn(1, num_tokens, 96, seed=2)
        wanted, found = values.clone(), values.clone()
        product = plain.activate_backward(gradient, wanted[..., 48:], wanted[..., 48:])
        own = found[..., 48:]
        assert torch.allclose(fast.activate_backward(gradient, own, own), product, atol=1e-6)
        assert torch.allclose(found, wanted, atol=1e-6)
    assert not said


def test_what_cannot_be_compiled_is_told() -> None:
    model, _ = adapted(network={"type": "dora", "linear_alpha": 4})
    said: list[str] = []
    model.prepare_backward(recomputes=True)
    model.compile_blocks(compiler(said, "eager"))
    why = "6 are not, because its network is not a LoRA"
    assert said == [f"warning: model.compile: of 6 blocks, 0 are compiled; {why}"]
