"""Jobs on pretended cards: two give what one gives, bit for bit, and one what the CPU gives.

Nothing mixes what is on a card with what is on the other or in host memory: see `tests.pretend_card`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from tests.contract.models import find_maker, shorten_texts
from tests.parallel_jobs import PARALLEL_JOBS, VIEWS, Make, Sections, adapters
from tests.tiers import IS_TORTURE
from tests.tiny import ROOT, losses, run_job, write_dataset, write_job
from tests.tiny_flux import make_tiny_flux
from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.weights.tensor_files import read_tensors

Runs = dict[str, tuple[list[Path], str]]
ARCH = "flux2_klein_4b"  # of jobs that name none: its small model is cut between two double blocks
SIZE_PX = 64  # the smallest reference image
ADDED_TOKENS = ("adapters", VIEWS)
RESUMED = "references, averages, 8-bit optimizer, accumulation"
DROPOUT = "dropout, random crops, true guidance, no checkpointing"


def _references(folder: Path) -> Sections:
    before = write_dataset(folder / "before", count=1, size_px=SIZE_PX)
    after = write_dataset(folder / "after", count=1, size_px=SIZE_PX)
    return {
        "datasets": [{"folder_path": str(after), "control_path": str(before), "resolution": SIZE_PX}],
        "sample": {"samples": [{"prompt": "red", "ctrl_img": str(before / "0.png")}]},
    }


def _of_model(arch: str, folder: Path, **settings: Any) -> Sections:
    make = find_maker(arch)
    assert make is not None
    return {"model": {"arch": arch, **make(folder), **settings}}


def _with_assistant(folder: Path) -> Sections:
    """FLUX.1 [schnell] with an assistant LoRA on a double and a single block."""
    model = make_tiny_flux(folder, "schnell")
    width = json.loads((folder / "transformer" / "config.json").read_text())["num_attention_heads"]
    width *= json.loads((folder / "transformer" / "config.json").read_text())["attention_head_dim"]
    tensors = {}
    for layer in ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.attn.to_q"):
        tensors[f"transformer.{layer}.lora_A.weight"] = torch.full((2, width), 0.02)
        tensors[f"transformer.{layer}.lora_B.weight"] = torch.full((width, 2), 0.03)
    save_file(tensors, folder / "assistant.safetensors")
    return {"model": {**model, "assistant_lora_path": str(folder / "assistant.safetensors")}}


JOBS: Mapping[str, Make] = {
    **{arch: partial(_of_model, arch) for arch in find_cards() if find_maker(arch) is not None},
    "flux2": partial(_of_model, "flux2", quantize=True, qtype="nf4", quantize_cache=False, activation_offloading=True),
    "flux2_klein_9b": lambda folder: {
        **_of_model("flux2_klein_9b", folder, quantize=True, quantize_cache=False, low_vram=True),
        "train": {"merge_network_on_save": True},
    },
    "quantized by optimum-quanto": lambda folder: {
        **_of_model(ARCH, folder, quantize=True, quantize_cache=False, qtype="qint4", qtype_te="qfloat8"),
        "train": {"dtype": "bf16"},
    },
    "flux2_klein_9b_kv": lambda folder: _of_model("flux2_klein_9b_kv", folder) | _references(folder),
    "flux_kontext": lambda folder: _of_model("flux_kontext", folder) | _references(folder),
    "flux, assistant LoRA": _with_assistant,
    RESUMED: lambda folder: {
        **_references(folder),
        "train": {
            "steps": 4,
            "optimizer": "adamw8bit",
            "gradient_accumulation": 2,
            "ema_config": {"use_ema": True},
            "cfg_scale": 3.0,
        },
    },
    DROPOUT: lambda folder: {
        "network": {"type": "lora", "linear": 4, "dropout": 0.2, "transformer_only": False},
        "datasets": [
            {
                "folder_path": str(write_dataset(folder / "large", count=2, size_px=48)),
                "resolution": 32,
                "random_crop": True,
                "caption_dropout_rate": 0.5,
            }
        ],
        "train": {"gradient_checkpointing": False, "cfg_scale": 3.0, "loss_type": "pseudo_huber"},
    },
    "two passes": lambda folder: {
        "adapter": {"type": "mean_flow"},
        "train": {"objective": "mean_flow"},
    },
    "adapters": adapters,
    **PARALLEL_JOBS,
    "full fine-tune": lambda folder: {
        "network": None,
        "train": {"full_finetune": True, "dtype": "bf16", "full_finetune_weights": "bf16_split"},
    },
    "full fine-tune, fused": lambda folder: {
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

# What others show, too: FLUX.1's blocks, klein's, references, two passes, and weights in 16 bits.
SHOWN_BY_OTHERS = ("flux", "flux_kontext", "flux2_tiny", "two passes", "slider", "full fine-tune")
RESUMES = {"0 to 1": (0, 1), "1 to 0": (1, 0)}  # saved on so many second cards, gone on with on so many
AS_ON_THE_CPU = tuple(JOBS)
if not IS_TORTURE:
    JOBS = {name: make for name, make in JOBS.items() if name not in SHOWN_BY_OTHERS}
    RESUMES = {"1 to 0": (1, 0)}
    AS_ON_THE_CPU = (ARCH, "flux2", "flux, assistant LoRA", RESUMED, DROPOUT, "full fine-tune, fused")
WITHOUT_PICTURES = ("networks, masks", VIEWS, "full fine-tune, fused", "quantized by optimum-quanto")
# bf16 is computed in other kernels on a CPU: what comes out is near, not equal.
TOLERANCES = {"bf16": 0.05, "fp32": 1e-3}


@pytest.fixture(autouse=True)
def _short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the process of the cards."""
    shorten_texts(monkeypatch)


def _sections(folder: Path, make: Make, *, is_cached: bool) -> Sections:
    """What a job's file says, with its model and images in a folder.

    Args:
        is_cached: the second run of it reads what the first encoded.
    """
    sections = {**_of_model(ARCH, folder), **make(folder)}
    sections.setdefault("datasets", [{"folder_path": str(write_dataset(folder / "few", count=1)), "resolution": 32}])
    if is_cached:
        caches = {"cache_text_embeddings": True, "cache_latents_to_disk": True}
        sections["datasets"] = [{**dataset, **caches} for dataset in sections["datasets"]]
    return sections


def _write(folder: Path, sections: Sections, *, is_split: bool) -> Path:
    settings = {"steps": 2, "batch_size": 1, "gradient_checkpointing": True}
    sample = {"sample_every": 2, "sample_steps": 1, "samples": [{"prompt": "red"}]}
    return write_job(
        folder,
        device="cuda",
        save={"save_every": 2},
        **{
            **sections,
            "model": {**sections["model"], "split_model_over_gpus": is_split},
            "train": {**settings, "skip_first_sample": True, **sections.get("train", {})},
            "sample": {**sample, **sections.get("sample", {})},
        },
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Each job's folder on one card and on two, and what the process said in which all of them ran."""
    jobs: dict[str, list[Path]] = {}
    for name, make in JOBS.items():
        folders = [tmp_path_factory.mktemp(f"cards{number}") for number in (1, 2)]
        sections = _sections(folders[0], make, is_cached=name != ARCH)
        sections["train"] = {"disable_sampling": name in WITHOUT_PICTURES, **sections.get("train", {})}
        jobs[name] = [_write(folder, sections, is_split=folder is folders[1]).parent for folder in folders]
    arguments = ["--recover", *(str(folder / "job.yaml") for folders in jobs.values() for folder in folders)]
    for name, (start, end) in RESUMES.items():
        folder = tmp_path_factory.mktemp("resumed")
        bundle = jobs[RESUMED][start] / "output" / "job" / "state" / "000000002"
        job = yaml.safe_load((jobs[RESUMED][start] / "job.yaml").read_text(encoding="utf-8"))
        process = job["config"]["process"][0]
        process |= {"training_folder": str(folder / "output")}
        process["model"]["split_model_over_gpus"] = end == 1
        (folder / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
        jobs[name] = [jobs[RESUMED][0], folder]
        arguments += ["--", "--recover", "--resume", str(bundle), str(folder / "job.yaml")]
    command = [sys.executable, "-m", "tests.pretend_card", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    said = done.stdout[-20000:] + done.stderr[-6000:]
    return {name: (folders, said) for name, folders in jobs.items()}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_on_two_cards_gives_what_it_gives_on_one(name: str, runs: Runs) -> None:
    (one, two), said = runs[name]
    outputs = [folder / "output" / "job" for folder in (one, two)]
    assert len(losses(outputs[0])) > 1 and losses(outputs[0]) == losses(outputs[1]), said
    assert _moves(one) == {} and _moves(two).keys() == {"0 to 1", "1 to 0"}
    # The gradients of what adapters' tokens are made of are summed card by card, in another order.
    _must_be_equal(*outputs, tolerance=1e-5 if name in ADDED_TOKENS else 0)
    pictures = [sorted(output.glob("samples/*__*")) for output in outputs]
    assert bool(pictures[0]) == (name not in WITHOUT_PICTURES) and len(pictures[0]) == len(pictures[1])
    for here, there in zip(*pictures, strict=True):
        assert Image.open(here).tobytes() == Image.open(there).tobytes()


@pytest.mark.parametrize("name", AS_ON_THE_CPU)
def test_a_job_runs_on_a_card_as_it_does_on_the_cpu(name: str, runs: Runs, tmp_path: Path) -> None:
    (one, _), said = runs[name]
    output = one / "output" / "job"
    assert '"device": "card"' in (output / "runs.jsonl").read_text(encoding="utf-8"), said
    on_cpu = ("device=cpu", f"training_folder={tmp_path}", "train.disable_sampling=true")
    assert run_job(one / "job.yaml", None, *on_cpu).status == "done"
    tolerance = TOLERANCES[load_job(one / "job.yaml").training().train.dtype]
    assert losses(tmp_path / "job") == pytest.approx(losses(output), rel=tolerance)


@pytest.mark.parametrize("name", RESUMES)
def test_a_run_goes_on_with_another_number_of_cards(name: str, runs: Runs) -> None:
    (whole, resumed), said = runs[name]
    outputs = [folder / "output" / "job" for folder in (whole, resumed)]
    assert list(losses(outputs[1])) == [3, 4], said
    assert losses(outputs[1]).items() <= losses(outputs[0]).items()
    assert bool(_moves(resumed)) == (name == "0 to 1")
    _must_be_equal(*outputs, name="job.safetensors")


def test_what_all_blocks_are_given_is_copied_once_for_each_card_and_pass(runs: Runs) -> None:
    """Two steps of a LoRA in the blocks, and one of a sampler that makes two passes; four blocks on the second card.

    There go, in each of four passes, both streams, two modulations and the two parts of the rotation for the double
    block, and a modulation for the single ones; in each step, the gradient of what comes back. Back come the stream of
    each pass, and in each step the gradients of both streams.
    """
    (_, two), _ = runs[ARCH]
    assert _moves(two) == {"0 to 1": 4 * 7 + 2, "1 to 0": 4 + 2 * 2}


@pytest.mark.parametrize("name", [ARCH, DROPOUT])
def test_dropout_on_the_second_card_goes_on_from_the_first(name: str, runs: Runs) -> None:
    """The pretended cards share a generator: real ones have one each. Nothing is drawn when a pass is recomputed."""
    (_, two), _ = runs[name]
    assert _counts(two, "states") == {"0 to 1": 2}, "once in each trained pass"


def _moves(folder: Path) -> dict[str, int]:
    return _counts(folder, "moves")


def _counts(folder: Path, name: str) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _must_be_equal(one: Path, other: Path, *, name: str = "*.safetensors", tolerance: float = 0) -> None:
    """The weights in both output folders."""
    files = [sorted(path.name for path in output.glob(name)) for output in (one, other)]
    assert files[0] and files[0] == files[1]
    for file in files[0]:
        here, there = read_tensors(one / file), read_tensors(other / file)
        assert here.keys() == there.keys(), file
        for key in here:
            torch.testing.assert_close(here[key], there[key], rtol=tolerance, atol=tolerance)
