"""Make `assets/flux2_tiny` from scratch: VAE, text encoder, dataset, transformer, measurement.

    python -m scripts.make_flux2_tiny --work /tmp/tiny                   # everything; hours on two cores
    python -m scripts.make_flux2_tiny --work /tmp/tiny --stage text --stage initial

Each stage reads the results of earlier stages from the work folder and makes its own part again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from scripts.flux2_tiny.assemble import make_transformer, save_pipeline
from scripts.flux2_tiny.dataset import write_demo_dataset, write_regularization_dataset, write_world_dataset
from scripts.flux2_tiny.edits import write_edit_dataset
from scripts.flux2_tiny.measure import measure_model
from scripts.flux2_tiny.text import make_text_encoder, make_tokenizer
from scripts.flux2_tiny.vae import held_out_psnr, train_vae
from toolkit.errors import UserError
from toolkit.files import write_text

ROOT = Path(__file__).resolve().parents[1]
ASSET = ROOT / "assets" / "flux2_tiny"
DEMO_DATASET = ROOT / "assets" / "demo_dataset"
DEMO_REGULARIZATION = ROOT / "assets" / "demo_regularization"
DEMO_EDIT_DATASET = ROOT / "assets" / "demo_edit_dataset"
JOB_NAME = "flux2_tiny"
TRANSFORMER_STEPS = 4000
NUM_PICTURES = 4000
NUM_PROMPTS = 256
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)


def make_vae(work: Path) -> None:
    """Write WORK/vae: the trained VAE in fp32."""
    train_vae().save_pretrained(work / "vae")


def make_text(work: Path) -> None:
    """Write WORK/tokenizer and WORK/text_encoder."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(work / "tokenizer")
    make_text_encoder(tokenizer).save_pretrained(work / "text_encoder")


def make_datasets(work: Path) -> None:
    """Write WORK/world, the images and captions of the world, and the demos' datasets in the repository."""
    write_world_dataset(work / "world", num_pictures=NUM_PICTURES)
    write_demo_dataset(DEMO_DATASET)
    write_regularization_dataset(DEMO_REGULARIZATION)
    write_edit_dataset(DEMO_EDIT_DATASET)


def make_initial(work: Path) -> None:
    """Write WORK/initial: the whole model with an untrained transformer in fp32, everything else in bf16."""
    _save(work / "initial", work, transformer=make_transformer())


def train_transformer(work: Path) -> None:
    """Write the asset: WORK/initial after a full fine-tune of its transformer with this trainer, all in bf16."""
    job = work / f"{JOB_NAME}.yaml"
    write_text(job, yaml.safe_dump(training_job(work), sort_keys=False))
    subprocess.run([sys.executable, str(ROOT / "run.py"), str(job)], cwd=ROOT, check=True)
    transformer = Flux2Transformer2DModel.from_single_file(
        str(work / "output" / JOB_NAME / f"{JOB_NAME}.safetensors"),
        config=str(work / "initial"),
        subfolder="transformer",
        local_files_only=True,
        torch_dtype=torch.bfloat16,
    )
    _save(ASSET, work, transformer=transformer)


def measure(work: Path) -> None:
    """Measure the asset and write the results into its README."""
    shares = measure_model(ASSET, num_prompts=NUM_PROMPTS)
    exact = held_out_psnr(AutoencoderKLFlux2.from_pretrained(work / "vae"))
    stored = held_out_psnr(AutoencoderKLFlux2.from_pretrained(ASSET / "vae"))
    num_bytes = sum(file.stat().st_size for file in ASSET.rglob("*") if file.is_file())
    lines = [
        f"| {NUM_PROMPTS} held-out prompts | share |",
        "|---|---|",
        *(f"| {'all three right' if name == 'right' else name + ' right'} | {s:.1%} |" for name, s in shares.items()),
        "",
        "| VAE, held-out pictures | PSNR as stored (bf16) | PSNR in fp32 |",
        "|---|---|---|",
        *(f"| {name} | {stored[name]:.1f} dB | {exact[name]:.1f} dB |" for name in stored),
        "",
        f"{num_bytes / 1e6:.1f} MB in all.",
    ]
    readme = ASSET / "README.md"
    text = readme.read_text(encoding="utf-8")
    write_text(readme, FIGURES.sub(lambda _: "\n".join(lines) + "\n", text))
    print("\n".join(lines))


def training_job(work: Path) -> dict[str, Any]:
    """The job file that trains the transformer."""
    process = {
        "type": "sd_trainer",
        "training_folder": str(work / "output"),
        "device": "cpu",
        "training_seed": 0,
        "save": {"dtype": "fp32", "save_every": 500, "max_step_saves_to_keep": 1},
        "datasets": [
            {
                "folder_path": str(work / "world"),
                "caption_ext": "txt",
                "caption_dropout_rate": 0.1,
                "resolution": [128],
                "cache_latents": True,
            }
        ],
        "train": {
            "full_finetune": True,
            "steps": TRANSFORMER_STEPS,
            "batch_size": 32,
            "lr": 1.5e-3,
            "lr_scheduler": "cosine",
            "lr_scheduler_params": {"warmup_steps": 100},
            "optimizer": "adamw",
            "optimizer_params": {"betas": [0.9, 0.99]},
            "timestep_type": "sigmoid",
            "dtype": "bf16",
            "gradient_checkpointing": False,
            "disable_sampling": True,
        },
        "model": {"name_or_path": str(work / "initial"), "arch": "flux2_tiny", "vae_dtype": "bf16"},
    }
    return {"job": "extension", "config": {"name": JOB_NAME, "process": [process]}, "meta": {"name": "[name]"}}


STAGES: dict[str, Callable[[Path], None]] = {
    "vae": make_vae,
    "text": make_text,
    "dataset": make_datasets,
    "initial": make_initial,
    "transformer": train_transformer,
    "measure": measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.make_flux2_tiny",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate results")
    parser.add_argument(
        "--stage",
        action="append",
        choices=list(STAGES),
        help="make this part; repeatable (default: all)",
    )
    options = parser.parse_args(arguments)
    work: Path = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    for name, stage in STAGES.items():
        if options.stage is None or name in options.stage:
            print(f"== {name}", flush=True)
            try:
                stage(work)
            except UserError as error:
                print(error, file=sys.stderr)
                return 2
            except subprocess.CalledProcessError as error:
                print(f"The training failed with exit code {error.returncode}.", file=sys.stderr)
                return 1
    return 0


def _save(folder: Path, work: Path, *, transformer: Flux2Transformer2DModel) -> None:
    """Save the whole model, with VAE, tokenizer and text encoder from the work folder."""
    for part, stage in (("vae", "vae"), ("tokenizer", "text"), ("text_encoder", "text")):
        if not (work / part).is_dir():
            raise UserError(f"{work / part} does not exist yet. Run --stage {stage} first.")
    save_pipeline(
        folder,
        vae=AutoencoderKLFlux2.from_pretrained(work / "vae", torch_dtype=torch.bfloat16),
        text_encoder=Qwen3ForCausalLM.from_pretrained(work / "text_encoder"),
        tokenizer=Qwen2TokenizerFast.from_pretrained(work / "tokenizer"),
        transformer=transformer,
    )


if __name__ == "__main__":
    sys.exit(main())
