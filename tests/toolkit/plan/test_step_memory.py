"""The formulas for activations, held against storages counted while the real classes run on fake tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.live_bytes import config_of, family_of, forward_bytes, step_bytes
from toolkit.cards import find_cards
from toolkit.model_size import ModelSize
from toolkit.plan import step_memory
from toolkit.plan.phases import training
from toolkit.plan.plan_inputs import PlanInputs, Workload

TOLERANCE = 0.1
# Double and single blocks. A full fine-tune of FLUX.1 is planned with up to 0.6 GB too much: a double block is taken to
# have the gradients of its attention and MLP at its fullest moment, and has few of them.
BLOCKS = {"flux": (4, 6), "flux2_klein_4b": (2, 3)}


def size_of(arch: str, *, double: int | None = None, single: int | None = None) -> ModelSize:
    size = find_cards()[arch].size
    assert size is not None
    counts = (double, single)
    blocks = tuple(
        block if count is None else replace(block, count=count)
        for block, count in zip(size.transformer.blocks, counts, strict=True)
    )
    return replace(size, transformer=replace(size.transformer, blocks=blocks))


def planned_bytes(size: ModelSize, *, side_px: int, num_references: int = 0, passes: int = 1, **options: Any) -> int:
    """What the plan expects of forward and backward passes."""
    work = Workload(train_px=side_px**2 * (1 + num_references), encode_px=0, passes=passes)
    inputs = PlanInputs(size, work, "cuda", **options)
    return max(sum(parts.values()) for parts in step_memory.step_moments(inputs) if "update" not in parts)


@pytest.mark.parametrize(
    ("arch", "double", "single"),
    [
        ("flux2", 2, 6),
        pytest.param("flux2", 8, 48, marks=pytest.mark.torture),
        pytest.param("flux", 19, 38, marks=pytest.mark.torture),
    ],
)
def test_dev_as_wide_as_it_is_needs_what_is_planned(arch: str, double: int, single: int) -> None:
    counted = step_bytes(arch, side_px=1024, num_double=double, num_single=single)
    size = size_of(arch, double=double, single=single)
    assert planned_bytes(size, side_px=1024) == pytest.approx(counted, rel=TOLERANCE)


OPTIONS: list[dict[str, Any]] = [
    {"dtype": torch.float32},
    {"recomputes": False},
    {"recomputes": False, "dtype": torch.float32},
    {"rank": None, "batch_size": 2},
    {"rank": None, "side_px": 512},
    {"rank": None, "recomputes": False, "dtype": torch.float32},
    {"rank": 64, "side_px": 512, "num_references": 1},
    {"passes": 2},
    {"passes": 2, "recomputes": False},
    {"passes": 2, "rank": None, "side_px": 512},
    {"passes": 2, "rank": None, "recomputes": False, "dtype": torch.float32},
]
# Blocks of FLUX.1 take the longest, and passes, precisions and references add up as they do in FLUX.2.
OF_FLUX = ({"recomputes": False},)
# Of several passes, one form each with and without a network.
RARE = ({"passes": 2, "recomputes": False}, {"passes": 2, "rank": None, "side_px": 512})
STEPS = [
    pytest.param(
        arch,
        options,
        marks=pytest.mark.torture if options in RARE or (arch == "flux" and options not in OF_FLUX) else (),
        id=f"{arch} {options}",
    )
    for arch in BLOCKS
    for options in OPTIONS
]


@pytest.fixture(autouse=True)
def _as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of bf16 are in bf16, as on every card, whatever this CPU can do."""
    monkeypatch.setattr("toolkit.runtime.devices._has_bf16_products", lambda: True)


OWN: list[dict[str, Any]] = [
    {"dtype": torch.float32},
    {"side_px": 512, "batch_size": 2},
    {"recomputes": False},
    {"recomputes": False, "dtype": torch.float32},
    {"rank": 64, "num_references": 1},
    {"passes": 2},
    {"passes": 2, "recomputes": False},
]


# FLUX.1's blocks run the same code in other sizes.
OWN_STEPS = [
    pytest.param(arch, options, marks=pytest.mark.torture if options in rare else (), id=f"{arch} {options}")
    for arch, several, rare in (("flux2_klein_4b", OWN, RARE), ("flux", [{}, OWN[2]], OWN[2:3]))
    for options in several
]


@pytest.mark.parametrize(("arch", "options"), OWN_STEPS)
def test_a_step_with_a_backward_pass_of_its_own_needs_what_is_planned(arch: str, options: dict[str, Any]) -> None:
    settings = {"side_px": 1024, "dtype": torch.bfloat16, **options}
    counted = step_bytes(arch, own_backward=True, num_double=2, num_single=3, **settings)
    settings["lora_rank"], settings["width"] = settings.pop("rank", 16), settings.pop("dtype").itemsize
    planned = planned_bytes(size_of(arch, double=2, single=3), backwards=("own",), keeps=1.0, **settings)
    # The last block keeps less, because only the image is read of it. Here it is one of five, in a model one of many.
    assert 0.96 * counted <= planned <= 1.07 * counted


@pytest.mark.parametrize(("arch", "options"), STEPS)
def test_a_step_needs_what_is_planned(arch: str, options: dict[str, Any]) -> None:
    settings = {"side_px": 1024, "dtype": torch.bfloat16, **options}
    double, single = BLOCKS[arch]
    counted = step_bytes(arch, num_double=double, num_single=single, **settings)
    settings["lora_rank"], settings["width"] = settings.pop("rank", 16), settings.pop("dtype").itemsize
    size = size_of(arch, double=double, single=single)
    assert planned_bytes(size, **settings) == pytest.approx(counted, rel=TOLERANCE)


@pytest.mark.parametrize("arch", ["flux", "flux2_klein_9b"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_sample_needs_what_is_planned(arch: str, dtype: torch.dtype) -> None:
    counted = forward_bytes(arch, side_px=1024, dtype=dtype, num_double=1, num_single=2)
    inputs = PlanInputs(size_of(arch), Workload(0, 0), "cuda", width=dtype.itemsize)
    assert step_memory.forward_bytes(inputs, 1024**2) == pytest.approx(counted, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("only", "recomputes"),
    [("single_transformer_blocks.2.", True), ("transformer_blocks.0.", True), ("attn", True), ("attn", False)],
)
def test_a_step_that_trains_some_of_the_weights_needs_no_more_than_is_planned(only: str, recomputes: bool) -> None:
    """An upper bound: blocks before the first trained weight keep nothing, and are planned as if they did."""
    arch, settings = "flux2_klein_4b", dict[str, Any](side_px=512, recomputes=recomputes)
    double, single = BLOCKS[arch]
    size = size_of(arch, double=double, single=single)
    counted = step_bytes(arch, num_double=double, num_single=single, rank=None, only=only, **settings)
    with torch.device("meta"):
        model = family_of(arch).transformer(**config_of(arch, num_double=double, num_single=single))
    chosen = {"transformer_blocks": 0, "single_transformer_blocks": 0, "": 0}
    for name, parameter in model.named_parameters():
        run = next((run for run in chosen if run and name.startswith(f"{run}.")), "")
        chosen[run] += parameter.numel() if only in name else 0
    filtered = planned_bytes(size, lora_rank=None, fixed_weights=tuple(chosen.values()), **settings)
    assert counted <= filtered < planned_bytes(size, lora_rank=None, **settings)


def test_a_pass_of_a_validation_round_needs_what_is_planned() -> None:
    counted = forward_bytes("flux2_klein_9b", side_px=512, batch_size=4, num_double=1, num_single=2)
    inputs = PlanInputs(size_of("flux2_klein_9b"), Workload(0, 0, validate_px=512**2, validate_together=4), "cuda")
    planned = training.validate(inputs).device["working set"]
    assert planned == pytest.approx(counted, rel=TOLERANCE)  # each noise level has a prompt of its own in the pass
