"""toolkit.compute.machine and check: what a machine can do, what `auto` chooses, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.job import Job
from tests.tiny import losses, run_job, tiny_model, write_job
from toolkit.compute.choices import AUTO, COMPUTES
from toolkit.compute.machine import Machine, choose_compute, refusal
from toolkit.config import load_job
from toolkit.errors import UserError
from toolkit.output.events import read_events
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.quantize.qtypes import QTYPES

CPU, OLD_CPU = Machine("cpu", "a CPU"), Machine("cpu", "a CPU", has_units=False)
TURING, AMPERE, ADA = (Machine("cuda", "a card", of) for of in ((7, 5), (8, 6), (8, 9)))
MPS = Machine("other", "mps")
INT8 = {"quantize": True, "qtype": "int8", "quantize_te": False, "quantize_cache": False}


@pytest.mark.parametrize(
    ("machine", "can"),
    [
        (CPU, {"bf16", "int8"}),
        (TURING, {"bf16"}),
        (AMPERE, {"bf16", "int8"}),
        (ADA, {"bf16", "int8", "fp8"}),
        (MPS, {"bf16"}),
    ],
)
def test_a_refusal_names_what_the_machine_can(machine: Machine, can: set[str]) -> None:
    refused = {name: why for name in COMPUTES if (why := refusal(name, machine)) is not None}
    assert set(COMPUTES) - set(refused) == can
    for why in refused.values():
        assert machine.name in why
        assert why.endswith(", ".join(name for name in COMPUTES if name in can))


@pytest.mark.parametrize(
    ("qtype", "machine", "chosen", "reason"),
    [
        (None, CPU, "bf16", "not quantized"),
        ("nf4", ADA, "bf16", "stored as nf4"),
        ("int8", CPU, "int8", "stored as int8"),
        ("int8", OLD_CPU, "bf16", "no instructions"),
        ("convrot8", AMPERE, "int8", "stored as convrot8"),
        ("qfloat8", ADA, "fp8", "stored as qfloat8"),
        ("qfloat8", AMPERE, "bf16", "fp8 needs an NVIDIA GPU"),
        ("qint8", TURING, "bf16", "int8 needs"),
    ],
)
def test_auto_says_what_it_chose_and_why(qtype: str | None, machine: Machine, chosen: str, reason: str) -> None:
    found = choose_compute(AUTO, qtype, machine)
    assert found.name == chosen
    assert reason in found.describe()
    assert "\n" not in found.describe()


def test_every_format_that_is_multiplied_as_stored_has_a_scale_per_row_and_nothing_else() -> None:
    for row in COMPUTES.values():
        assert all(QTYPES[name].bits_per_weight == 8 for name in row.products)
        assert row.on_cpu or row.capability


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"compute": "int8"}, "not quantized: set `model.quantize: true` and `model.qtype: int8`"),
        ({"compute": "int8", "quantize": True}, "stored as qfloat8"),
        ({"compute": "fp8", "quantize": True, "qtype": "nf4"}, "`model.qtype: float8`"),
        ({"compute": "int4"}, "bf16"),
    ],
)
def test_weights_that_are_not_stored_that_way_are_refused(tmp_path: Path, model: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match="compute") as refused:
        load_job(write_job(tmp_path, model=model))
    assert says in str(refused.value)


def test_a_full_fine_tune_has_nothing_to_multiply_that_way(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a full fine-tune has none"):
        load_job(write_job(tmp_path, network=None, train={"full_finetune": True}, model={"compute": "int8"}))


def test_the_check_refuses_what_this_machine_cannot_do(tmp_path: Path) -> None:
    job = write_job(tmp_path, model={"quantize": True, "qtype": "float8", "compute": "fp8"}, device="cpu")
    with pytest.raises(UserError, match=r"model\.compute: fp8 needs .* and this is a CPU.*: bf16, int8"):
        Job(load_job(job)).check()


def test_a_model_that_is_loaded_by_itself_is_refused_too() -> None:
    with pytest.raises(UserError, match="fp8 needs"):
        tiny_model("transformer", quantize=True, qtype="float8", compute="fp8", quantize_cache=False)


def test_auto_multiplies_in_int8_where_that_is_how_weights_are_stored() -> None:
    for compute in ("int8", AUTO):
        layers = tiny_model("transformer", **INT8, compute=compute).transformer.modules()
        products = {layer.product is None for layer in layers if isinstance(layer, FrozenLinear)}
        assert len(products) == 1


@pytest.mark.slow  # three whole runs
def test_a_run_in_int8_samples_and_streams_with_the_same_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    streamed = {"layer_offloading": True, "layer_offloading_text_encoder_percent": 0}
    for name, model, checkpointing in (
        ("whole", {}, True),
        ("streamed", streamed, True),
        ("kept", streamed, False),
    ):
        settings: dict[str, Any] = {
            "model": {**INT8, "compute": "int8", **model},
            "train": {"disable_sampling": False, "steps": 2, "gradient_checkpointing": checkpointing},
            "sample": {"prompts": ["a red circle"], "sample_every": 2, "sample_steps": 1},
        }
        assert run_job(write_job(tmp_path, name=name, **settings)).status == "done"
        events = list(read_events(tmp_path / "output" / name / "events.jsonl"))
        assert any(event["kind"] == "sample" for event in events)
        assert "  compute: int8\n" in capsys.readouterr().out
    whole, *others = (losses(tmp_path / "output" / name) for name in ("whole", "streamed", "kept"))
    assert all(other == whole for other in others)
