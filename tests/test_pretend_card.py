"""Jobs on a device that is not the CPU: nothing mixes what is on the card with what is in host memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.job import Job
from tests.contract.models import find_maker
from tests.tiny import ROOT, TINY, write_dataset, write_job
from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.events import read_events
from toolkit.stop import StopRequest

SIZE_PX = 64  # the smallest reference image
JOBS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "references, averages, 8-bit optimizer": lambda folder: {
        "datasets": [
            {
                "folder_path": str(write_dataset(folder / "after", count=1, size_px=SIZE_PX)),
                "control_path": str(write_dataset(folder / "before", count=1, size_px=SIZE_PX)),
                "resolution": SIZE_PX,
                "cache_latents_to_disk": True,
                "cache_text_embeddings": True,
            }
        ],
        "train": {"optimizer": "adamw8bit", "gradient_accumulation": 2, "ema_config": {"use_ema": True}},
        "sample": {"samples": [{"prompt": "red", "ctrl_img": str(folder / "before" / "0.png")}]},
    },
    "random crops, dropout, true guidance": lambda folder: {
        "network": {"type": "lora", "linear": 4, "dropout": 0.2},
        "datasets": [
            {
                "folder_path": str(write_dataset(folder / "large", count=2, size_px=48)),
                "resolution": 32,
                "random_crop": True,
                "caption_dropout_rate": 0.5,
            }
        ],
        "train": {"cfg_scale": 3.0, "loss_type": "pseudo_huber"},
    },
    "quantized": lambda folder: {
        "model": _held(qtype="nf4", qtype_te="int8", low_vram=True, activation_offloading=True),
        "train": {"dtype": "bf16"},
    },
    "quantized by optimum-quanto": lambda folder: {
        "model": _held(qtype="qint4", qtype_te="qfloat8"),
        "train": {"dtype": "bf16"},
    },
    "full fine-tune": lambda folder: {
        "network": None,
        "train": {
            "full_finetune": True,
            "dtype": "bf16",
            "full_finetune_weights": "bf16_stochastic",
            "fused_backward_pass": True,
            "max_grad_norm": 0,
        },
    },
}
# bf16 is computed in other kernels: what comes out is near, not equal.
TOLERANCES = {"bf16": 0.05, "fp32": 1e-3}


def _held(**settings: Any) -> dict[str, Any]:
    return {"name_or_path": str(TINY), "arch": "flux2_tiny", "quantize": True, "quantize_cache": False, **settings}


def _model(arch: str, folder: Path) -> dict[str, Any]:
    make_tiny = find_maker(arch)
    if make_tiny is None:
        pytest.skip(f"{arch} has no tiny.py")
    return {"model": {"arch": arch, **make_tiny(folder)}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Each job, and what the process said in which the jobs ran on the card."""
    jobs: dict[str, Path] = {}
    makers = JOBS | {arch: lambda folder, arch=arch: _model(arch, folder) for arch in find_cards() if find_maker(arch)}
    for name, make in makers.items():
        folder = tmp_path_factory.mktemp("job")
        sections = make(folder)
        sections.setdefault(
            "datasets", [{"folder_path": str(write_dataset(folder / "few", count=1)), "resolution": 32}]
        )
        train = {"steps": 2, "batch_size": 1, "disable_sampling": False, "skip_first_sample": True}
        train |= sections.pop("train", {})
        sample = {"sample_every": 2, "sample_steps": 1, "samples": [{"prompt": "red"}], **sections.pop("sample", {})}
        jobs[name] = write_job(folder, train=train, sample=sample, save={"save_every": 2}, **sections)
    command = [sys.executable, "-m", "tests.pretend_card", "--recover", *map(str, jobs.values())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    said = done.stdout[-6000:] + done.stderr[-6000:]
    return {name: (job, said) for name, job in jobs.items()}


@pytest.mark.parametrize("name", [*JOBS, *sorted(find_cards())])
def test_a_job_runs_on_a_card_as_it_does_on_the_cpu(
    name: str, runs: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    if name not in runs:
        pytest.skip(f"{name} has no tiny.py: see docs/extensions.md")
    path, said = runs[name]
    on_card = _losses(path.parent / "output")
    assert list(on_card) == [1, 2] and list(path.parent.glob("output/job/samples/*__*")), said
    config = load_job(path, overrides=[f"training_folder={tmp_path}"])
    assert Job(config).run(StopRequest()).status == "done"
    tolerance = TOLERANCES[config.config.process[0].train.dtype]
    assert _losses(tmp_path) == pytest.approx(on_card, rel=tolerance)


def _losses(training_folder: Path) -> dict[int, float]:
    events = read_events(training_folder / "job" / "events.jsonl")
    return {event["step"]: event["loss"] for event in events if event["kind"] == "step"}
