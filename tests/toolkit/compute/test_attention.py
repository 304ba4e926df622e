"""toolkit.compute.attention, toolkit.compute.attention_choices"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.tiny import losses, problems_of, run_job, tiny_model, write_job
from toolkit.compute import attention
from toolkit.compute.attention import AttentionShape, choose_attention, measure, use_attention, works
from toolkit.compute.attention_choices import attention_refusal, possible_backends
from toolkit.compute.machine import Machine
from toolkit.errors import UserError
from toolkit.models.condition import Condition
from toolkit.output.bundles import newest_bundle

CPU = torch.device("cpu")
HERE = Machine("cpu", "a CPU")
HOPPER = Machine("cuda", "NVIDIA H100", (9, 0))
SHAPE = AttentionShape(heads=2, head_size=16, tokens=60, dtype=torch.float32)


def _choose(setting: str, folder: Path, *, machine: Machine = HERE, recorded: str | None = None) -> str:
    chosen = choose_attention(setting, SHAPE, machine, CPU, folder=folder, recorded=recorded)
    return chosen.describe()


def test_a_machine_has_the_kernels_that_torch_has_for_it() -> None:
    assert possible_backends(HERE) == ["native", "flash", "math"]
    assert possible_backends(HOPPER) == ["native", "flash", "cudnn", "efficient", "math"]
    assert possible_backends(Machine("cuda", "NVIDIA T4", (7, 5))) == ["native", "efficient", "math"]
    assert possible_backends(Machine("other", "mps")) == ["native", "math"]
    for name in possible_backends(HERE):
        assert works(name, SHAPE, CPU)
        assert attention_refusal(name, HERE) is None
    assert not works("cudnn", SHAPE, CPU)
    assert "It can: auto, native, flash, math" in str(attention_refusal("cudnn", HERE))


def test_auto_measures_once_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _choose("auto", tmp_path, machine=HOPPER)  # which has kernels that this machine leaves out
    assert "measured now at 512 tokens" in first
    (file,) = tmp_path.iterdir()
    assert set(json.loads(file.read_text())) == {"flash"}  # the only fast one that works here
    monkeypatch.setattr(attention, "measure", None)
    file.write_text('{"flash": 0.002, "math": 0.001}')
    assert _choose("auto", tmp_path, machine=HOPPER).startswith("attention: math (measured before")
    longer = replace(SHAPE, tokens=513)
    with pytest.raises(TypeError):  # another class: it would be measured
        choose_attention("auto", longer, HOPPER, CPU, folder=tmp_path, recorded=None)


def test_what_was_recorded_goes_before_a_measurement_and_the_job_before_both(tmp_path: Path) -> None:
    assert _choose("auto", tmp_path) == "attention: native (torch's choice on a CPU)"
    assert _choose("auto", tmp_path, recorded="math") == "attention: math (as before this start)"
    assert "the checkpoint's, cudnn, does not work here" in _choose("auto", tmp_path, recorded="cudnn")
    assert "it was math" in _choose("flash", tmp_path, recorded="math")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="It can: auto, native, flash, math"):
        _choose("efficient", tmp_path)


def test_a_kernel_that_fails_is_left_out_of_a_measurement() -> None:
    assert set(measure(["flash", "cudnn", "math"], SHAPE, CPU)) == {"flash", "math"}


@pytest.mark.parametrize("name", ["native", "flash", "math"])
def test_every_kernel_gives_the_same_gradients_in_blocks_with_and_without_their_own_backward_pass(name: str) -> None:
    found = []
    for own in (True, False):
        model = tiny_model("transformer")
        transformer = model.transformer
        use_attention(transformer, name)
        if own:
            model.prepare_backward(recomputes=True)
        transformer.train()
        torch.manual_seed(0)
        latents = torch.randn(1, transformer.config.in_channels, 4, 4, requires_grad=True)
        embeds = torch.randn(1, 8, transformer.config.joint_attention_dim)
        velocity = model.get_noise_prediction(latents, torch.tensor([500.0]), Condition(embeds))
        (gradient,) = torch.autograd.grad(velocity.square().sum(), latents)
        found.append(gradient)
    assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_a_run_records_its_kernel_and_goes_on_with_it(tmp_path: Path) -> None:
    model = {"name_or_path": str(tiny_model().model_config.name_or_path), "arch": "flux2_tiny"}
    job = write_job(tmp_path, model={**model, "attention_backend": "math"})
    assert run_job(job, None, "train.steps=3").status == "done"
    folder = tmp_path / "output" / "job"
    bundle, _ = newest_bundle(folder)
    assert bundle is not None
    assert bundle.manifest["attention"] == "math"
    assert run_job(job, None, "model.attention_backend=auto").status == "done"
    assert "as before this start" in (folder / "events.jsonl").read_text()
    assert len(losses(folder)) == 6


def test_a_kernel_that_the_machine_lacks_is_refused_by_the_check(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, model={"attention_backend": "cudnn"})
    assert "model.attention_backend" in problem
    assert "It can: auto, native, flash, math" in problem
    (other,) = problems_of(tmp_path, model={"attention_backend": "sage"})
    assert "torch has `flash`" in other
