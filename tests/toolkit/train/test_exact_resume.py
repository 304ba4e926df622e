"""A run that was interrupted anywhere ends as if it had not been, bit for bit, whatever it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.small_run import STEPS, Crash, SmallRun
from tests.tiers import IS_TORTURE
from tests.tiny import losses
from toolkit.config.updates.average import AVERAGE, SNAPSHOTS
from toolkit.errors import Interrupted
from toolkit.networks.choices import NETWORKS
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.schedule_choices import SCHEDULES
from toolkit.output.bundles import newest_bundle
from toolkit.train.resume import ResumeChoice
from toolkit.train.tasks.checkpoint import read_part
from toolkit.weights.tensor_files import read_tensors

EMA = {"ema_config": {"use_ema": True, "ema_decay": 0.9, "ema_warmup": True, "power_ema": True, "save_raw": True}}
WARMUP = {"lr_scheduler_params": {"warmup_steps": 2}}


def _variants() -> dict[str, SmallRun]:
    """Every network, full fine-tuning, every optimizer and schedule take turns, as do accumulation and averages."""
    found = {}
    kinds = [kind for kind, row in OPTIMIZERS.items() if not row.notice]
    networks = [*NETWORKS, None]
    for number in range(max(len(kinds), len(networks), len(SCHEDULES))):
        network, optimizer = networks[number % len(networks)], kinds[number % len(kinds)]
        row = OPTIMIZERS[optimizer]
        schedule, accumulation = list(SCHEDULES)[number % len(SCHEDULES)], 1 + 2 * (number // 2 % 2)
        train = {"optimizer": optimizer, "lr_scheduler": schedule, "gradient_accumulation": accumulation, **WARMUP}
        has_ema = number % 2 == 1 and not row.keeps_average
        train |= (EMA if has_ema else {}) | ({"lr": 1.0} if row.finds_its_rate else {})
        options = None if network is None else {"type": network, "linear": 2, "dropout": 0.3}
        name = f"{network or 'full'}-{optimizer}-{schedule}-accumulation{accumulation}{'-ema' if has_ema else ''}"
        found[name] = SmallRun(train, options)
    return found


VARIANTS = _variants()
DIE_TOO = VARIANTS if IS_TORTURE else list(VARIANTS)[::4]  # a checkpoint is read alike, whatever ended the run


def _state(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that the end of a run depends on, and what the user gets."""
    bundle, _ = newest_bundle(folder)
    assert bundle is not None
    assert bundle.step == STEPS
    parts = {part: read_part(bundle, part) for part in ("weights", "optimizer", AVERAGE, *SNAPSHOTS)}
    parts["user's"] = read_tensors(folder / "job.safetensors")
    return {f"{part} {name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def _assert_same(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    assert sorted(losses(one)) == list(range(1, STEPS + 1))
    a, b = _state(one), _state(other)
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_was_interrupted_in_every_step_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    variant, stopped, died = VARIANTS[name], tmp_path / "stopped", tmp_path / "died"
    deaths = (2, 4, 6) if name in DIE_TOO else ()  # saves are made after 2 and 4
    variant.run(tmp_path / "whole")
    for step in range(1, STEPS):
        with pytest.raises(Interrupted, match=f"after step {step} and saved"):
            variant.run(stopped, stop_in=step)
    for step in deaths:
        with pytest.raises(Crash):
            variant.run(died, crash_in=step)
    for folder in (stopped, died) if deaths else (stopped,):
        variant.run(folder)
        _assert_same(tmp_path / "whole", folder)


def test_another_save_cadence_changes_no_loss(tmp_path: Path) -> None:
    SmallRun(EMA).run(tmp_path / "whole")
    parts = tmp_path / "parts"
    for stop_in, save_every in ((2, 1), (4, 5)):
        with pytest.raises(Interrupted):
            SmallRun(EMA, save={"save_every": save_every, "max_step_saves_to_keep": 1}).run(parts, stop_in=stop_in)
    SmallRun(EMA, save={"save_every": 0}).run(parts)
    _assert_same(tmp_path / "whole", parts)


def test_an_average_that_is_turned_on_later_begins_with_the_weights_of_then(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        SmallRun().run(tmp_path, stop_in=5)
    trained = read_part(newest_bundle(tmp_path)[0], "weights")  # type: ignore[arg-type]
    SmallRun(EMA).run(tmp_path, resume=ResumeChoice(accept_config_change=True))
    state = _state(tmp_path)
    for name, before in trained.items():
        weight, average = state[f"weights {name}"], state[f"ema {name}"]
        assert torch.allclose(average, 0.1 * before + 0.9 * weight, atol=1e-7)  # the first step of a warm-up
