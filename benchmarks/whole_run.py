"""Whole runs of klein with random weights, from job file to LoRA: `python -m benchmarks.whole_run --out FILE`.

Memory of each stage, predicted and measured, and where the time until the first step goes. The model is written to a
folder first: 17 GB for klein 4B with its text encoder, 36 GB for 9B.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_model import write_random_folder
from benchmarks.setting import setting
from benchmarks.small_job import write_small_job
from toolkit.files import write_json
from toolkit.output.events import read_events
from toolkit.units import GB

ROOT = Path(__file__).resolve().parents[1]
STEPS, NUM_IMAGES = 24, 4
CASES: dict[str, dict[str, Any]] = {
    "bf16": {},
    "bf16, nothing recomputed": {"train": {"gradient_checkpointing": False}},
    "fp8": {"model": {"quantize": True, "qtype": "qfloat8"}},
    "nf4, low_vram": {"model": {"quantize": True, "qtype": "nf4", "low_vram": True}},
    "half of the layers streamed": {"model": {"layer_offloading": True, "layer_offloading_transformer_percent": 0.5}},
    "activations on the host": {"model": {"activation_offloading": True}},
    "EMA": {"train": {"ema_config": {"use_ema": True, "ema_decay": 0.99}}},
    "batch of 4 at 512": {"train": {"batch_size": 4}, "side_px": 512},
    "full fine-tune": {
        "network": None,
        "train": {
            "full_finetune": True,
            "full_finetune_weights": "bf16_stochastic",
            "fused_backward_pass": True,
            "max_grad_norm": 0,
        },
        "save": {"max_step_saves_to_keep": 1, "max_states_to_keep": 1},
    },
}


def run_case(case: dict[str, Any], *, arch: str, model: Path, folder: Path) -> dict[str, Any]:
    """Run one case, and read its figures from its event log."""
    job_file = _write_job(case, arch=arch, model=model, folder=folder)
    begin, before, on_card = time.time(), _used_bytes(), [0]
    run = subprocess.Popen([sys.executable, str(ROOT / "run.py"), str(job_file)], cwd=ROOT)
    while run.poll() is None:
        on_card.append(_used_bytes())
        time.sleep(0.5)
    if run.returncode:
        return {"exit_code": run.returncode}
    events = list(read_events(folder / "output" / "case" / "events.jsonl"))
    steps = [event for event in events if event["kind"] == "step"]
    stages = {
        event["name"]: {
            key: event[key]
            for key in ("duration_s", "peak_ram_bytes", "predicted_ram_bytes", "peak_gpu_bytes", "predicted_gpu_bytes")
        }
        for event in events
        if event["kind"] == "stage" and event["state"] == "done" and "peak_gpu_bytes" in event
    }
    return {
        "first_step_s": round(steps[0]["time"] - begin, 1),
        "s_per_step": statistics.median(event["step_s"] for event in steps[STEPS // 2 :]),
        "whole_s": round(events[-1]["time"] - begin, 1),
        "peak_card_bytes": max(on_card) - before,
        "predicted_card_bytes": _predicted_bytes(job_file),
        "stages": stages,
    }


def _ballast(card_gb: float) -> torch.Tensor:
    """Fills the card until `card_gb` GB are free."""
    torch.empty(1, device="cuda")
    free, _ = torch.cuda.mem_get_info()
    return torch.empty(free - round(card_gb * GB), dtype=torch.uint8, device="cuda")


def _used_bytes() -> int:
    """Memory of all cards that is in use, as the driver sees it; 0 without one."""
    if shutil.which("nvidia-smi") is None:
        return 0
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return sum(int(line) << 20 for line in subprocess.check_output(command, text=True).split())


def _predicted_bytes(job_file: Path) -> int:
    """The peak that the check prints."""
    command = [sys.executable, str(ROOT / "run.py"), "--check", "--json", "--resume", "none", str(job_file)]
    report = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return int(report["jobs"][0]["processes"][0]["memory"]["peak_gpu_bytes"])


def _write_job(case: dict[str, Any], *, arch: str, model: Path, folder: Path) -> Path:
    side_px = case.get("side_px", 1024)
    return write_small_job(
        folder,
        case,
        side_px=side_px,
        num_images=NUM_IMAGES,
        suffix="jpg",
        model={"arch": arch, "name_or_path": str(model)},
        train={"steps": STEPS, "dtype": "bf16", "skip_first_sample": True},
        sample={"width": side_px, "height": side_px, "sample_steps": 4, "samples": [{"prompt": "a red circle"}]},
    )


def main() -> None:
    """Write the model, run the cases, and print the table; the file is written after each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="flux2_klein_4b", choices=["flux2_klein_4b", "flux2_klein_9b"])
    parser.add_argument("--case", action="append", choices=CASES, help="run only this case; repeatable")
    parser.add_argument("--card", type=float, metavar="GB", help="leave the runs this much of the card")
    parser.add_argument("--folder", help="folder for the temporary model; default: the system's")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        **setting(on_card=torch.cuda.is_available()),
        "arch": arguments.arch,
        "cases": {},
    }
    ballast = None if arguments.card is None else _ballast(arguments.card)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        os.environ["XDG_CACHE_HOME"] = str(Path(temporary) / "cache")
        model = Path(temporary) / "model"
        begin = time.perf_counter()
        write_random_folder(model, arguments.arch)
        print(f"model written in {time.perf_counter() - begin:.0f} s", flush=True)
        for name in arguments.case or CASES:
            with tempfile.TemporaryDirectory() as folder:
                results["cases"][name] = run_case(CASES[name], arch=arguments.arch, model=model, folder=Path(folder))
            _print(name, results["cases"][name])
            if arguments.out:
                write_json(arguments.out, results)
    del ballast


def _print(name: str, row: dict[str, Any]) -> None:
    print(name, {key: value for key, value in row.items() if key != "stages"}, flush=True)
    for stage, figures in row.get("stages", {}).items():
        for where in ("gpu", "ram"):
            planned, seen = figures[f"predicted_{where}_bytes"], figures[f"peak_{where}_bytes"]
            error = f"{planned / seen - 1:+.1%}" if seen else ""
            print(f"    {stage:<16} {where} {planned / 1e9:8.2f} GB planned {seen / 1e9:8.2f} GB seen {error}")


if __name__ == "__main__":
    main()
