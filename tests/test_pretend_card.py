"""Jobs on a device that is not the CPU: nothing mixes what is on the card with what is in host memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.models import MakeTiny, find_maker, shorten_texts
from tests.tiny import ROOT, TINY, losses, run_job, write_dataset, write_job
from toolkit.cards import find_cards
from toolkit.config import load_job

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


def _jobs_of_models() -> dict[str, Callable[[Path], dict[str, Any]]]:
    makers = {arch: find_maker(arch) for arch in find_cards()}
    return {arch: partial(_job_of_model, arch, make) for arch, make in makers.items() if make is not None}


def _job_of_model(arch: str, make_tiny: MakeTiny, folder: Path) -> dict[str, Any]:
    return {"model": {"arch": arch, **make_tiny(folder)}}


@pytest.fixture(autouse=True)
def _short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the process of the card."""
    shorten_texts(monkeypatch)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Each job, and what the process said in which the jobs ran on the card."""
    jobs: dict[str, Path] = {}
    for name, make in (JOBS | _jobs_of_models()).items():
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
    output = path.parent / "output" / "job"
    on_card = losses(output)
    assert '"device": "card"' in (output / "runs.jsonl").read_text(encoding="utf-8"), said
    assert list(on_card) == [1, 2] and list(path.parent.glob("output/job/samples/*__*")), said
    assert run_job(path, None, f"training_folder={tmp_path}").status == "done"
    tolerance = TOLERANCES[load_job(path).training().train.dtype]
    assert losses(tmp_path / "job") == pytest.approx(on_card, rel=tolerance)
