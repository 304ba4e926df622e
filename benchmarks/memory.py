"""How well the memory plan predicts a run's peak: `python -m benchmarks.memory --out FILE`.

Each case is a whole run in its own process: two steps of a LoRA and a sample, on the CPU, where the peak is that of the
resident set size. The large model combines random weights with the tiny model's encoders.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load import HEAD_DIM, write_random_model
from benchmarks.setting import setting
from benchmarks.small_job import write_small_job
from extensions_built_in.diffusion_models.flux2.size import TINY, transformer_size
from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.files import write_json
from toolkit.plan.memory_plan import make_plan
from toolkit.plan.of_job.inputs import inputs_of
from toolkit.plan.workload import assumed_needs, workload_of

ROOT = Path(__file__).resolve().parents[1]
HEADS, DOUBLE, SINGLE = 10, 2, 8
LARGE = replace(
    TINY,
    transformer=transformer_size(
        hidden_size=HEADS * HEAD_DIM, num_double=DOUBLE, num_single=SINGLE, text_size=192, latent_channels=64
    ),
)
CASES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "tiny, batch of 16": {"train": {"batch_size": 16}},
    "1 GB, fp32": {"large": True},
    "1 GB, fp32, nothing recomputed": {"large": True, "train": {"gradient_checkpointing": False}},
    "1 GB, 8 bits": {"large": True, "model": {"quantize": True, "quantize_te": False, "qtype": "qint8"}},
    "1 GB, full fine-tune": {"large": True, "network": None, "train": {"full_finetune": True}},
}


def run_case(folder: Path, case: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one case. Returns the predicted and measured peak of each stage."""
    is_large = case.get("large", False)
    job_file = _write_job(folder, case)
    subprocess.run([sys.executable, str(ROOT / "run.py"), str(job_file)], cwd=ROOT, check=True, stdout=sys.stderr)
    process = load_job(job_file).training()
    card = find_cards()["flux2_tiny"]
    work = replace(workload_of(assumed_needs(process, card), card), keeps_vae=True)
    predicted = make_plan(inputs_of(process, LARGE if is_large else TINY, work, "cpu")).stage_peaks()
    lines = (folder / "output" / "case" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    rows = []
    for event in map(json.loads, lines):
        if event.get("state") == "done":
            planned, seen = predicted[event["name"]][0], event["peak_ram_bytes"]
            error = round(planned / seen - 1, 3)
            rows.append({"stage": event["name"], "predicted_bytes": planned, "measured_bytes": seen, "error": error})
    return rows


def _write_job(folder: Path, case: dict[str, Any]) -> Path:
    model: dict[str, Any] = {"arch": "flux2_tiny", "name_or_path": str(ROOT / "assets" / "flux2_tiny")}
    if case.get("large"):
        path = folder / "model.safetensors"
        write_random_model(path, num_heads=HEADS, num_double=DOUBLE, num_single=SINGLE, text_size=192, channels=64)
        model["model_paths"] = {"transformer": str(path)}
    return write_small_job(
        folder,
        case,
        side_px=256 if case.get("large") else 128,
        num_images=16,
        device="cpu",
        model=model,
        train={"steps": 2, "dtype": "fp32", "skip_first_sample": True},
        sample={"width": 128, "height": 128, "sample_steps": 2, "samples": [{"prompt": "a red circle"}]},
    )


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=CASES, help="run only this case; repeatable")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.case or CASES:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = run_case(Path(folder), CASES[name])
        for row in results[name]:
            planned, seen = row["predicted_bytes"] / 1e6, row["measured_bytes"] / 1e6
            print(f"{name:<32} {row['stage']:<14} {planned:8.0f} MB {seen:8.0f} MB {row['error']:+.1%}", flush=True)
    if arguments.out:
        write_json(arguments.out, {**setting(on_card=False), "cases": results})


if __name__ == "__main__":
    main()
