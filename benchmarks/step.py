"""Time and memory of a LoRA step at the released sizes, with random weights: `python -m benchmarks.step --out FILE`.

Each cell is a model, a size in pixels and settings. It is measured for our step (network, objective, clipping and
optimizer included) and, in some cells, for the same layers in a plain loop of diffusers and peft with checkpointing,
whose blocks are also compiled on a card.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.random_model import empty_transformer, position_ids, random_recipe, transformer_build
from benchmarks.setting import setting
from benchmarks.step_cells import CELLS, RANK, Cell
from toolkit.cards import find_cards
from toolkit.compute.compiler import Compiler
from toolkit.compute.use import compute_as
from toolkit.config import TrainingProcessConfig, load_job
from toolkit.files import write_json
from toolkit.memory.host import release_memory
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.parallel.ranks import OneProcess
from toolkit.plan.memory_plan import make_plan
from toolkit.plan.of_job.inputs import inputs_of
from toolkit.plan.plan_inputs import Workload
from toolkit.randomness import Draws
from toolkit.runtime.devices import autocast
from toolkit.train.learner import build_learner
from toolkit.train.step import Stepper
from toolkit.train.trainable import NetworkWeights
from toolkit.units import GB
from toolkit.util.get_model import get_model_class

TEXT_TOKENS, WARM_UP = 512, 3
ARMS = ("ours", "plain", "plain compiled")
Step = Callable[[int], Tensor]


def job_of(cell: Cell, folder: Path) -> TrainingProcessConfig:
    """The settings of a cell, read from a job file like any user's."""
    process = {
        "type": "sd_trainer",
        "training_folder": str(folder),
        "model": {"arch": _arch(cell), "name_or_path": str(folder), "quantize_cache": False} | cell.model,
        "network": {"type": "lora", "linear": cell.rank} | cell.network,
        "datasets": [{"folder_path": str(folder), "resolution": cell.side_px}],
        "train": {"steps": 100, "lr": 1e-4, "dtype": "bf16", "batch_size": cell.batch} | cell.train,
    }
    path = folder / "job.yaml"
    text = yaml.safe_dump({"job": "extension", "config": {"name": "job", "process": [process]}})
    path.write_text(text, encoding="utf-8")
    return load_job(path).training()


def predicted_bytes(cell: Cell, config: TrainingProcessConfig, **changes: Any) -> int:
    """Bytes of tensors on the card that the memory plan predicts for a cell of a released model.

    Args:
        cell: the cell.
        config: its job.
        changes: inputs of the plan that are not the job's.
    """
    size = find_cards()[cell.arch].size
    assert size is not None
    work = Workload(train_px=cell.side_px**2, encode_px=cell.side_px**2)
    plan = make_plan(replace(inputs_of(config, size, work, "cuda"), **changes))
    return next(phase.tensor_bytes for phase in plan.phases if phase.name == "train")


def our_step(cell: Cell, config: TrainingProcessConfig, device: torch.device) -> tuple[BaseModel, Step]:
    """Our model on the device, and a function that makes one update and returns its loss."""
    model: Any = get_model_class(config.model)(config.model, device=device, dtype=torch.bfloat16)
    recipe = random_recipe(empty_transformer(transformer_build(cell.arch)))
    model.transformer = model.load_recipe("transformer", recipe, dtype=model.transformer_dtype)
    draws = Draws(0)
    assert config.network is not None
    network = Network(model, config.network, draws)
    network.apply()
    model.prepare_backward(recomputes=config.train.gradient_checkpointing)
    compute_as(config.model, model.transformer, str(device))
    if config.model.compile:
        model.compile_blocks(Compiler(notify=print, warn=print))
    model.transformer.train()
    learner = build_learner(model, NetworkWeights(network), config.train, draws=draws, ranks=OneProcess())
    objective = OBJECTIVES[config.train.objective].load().from_config(config.train)
    stepper = Stepper(learner, objective, draws, OneProcess())
    latents, embeds = _inputs(cell, device)
    weight, num_tokens = torch.ones(cell.batch, device=device), (cell.side_px // 16) ** 2

    def step(index: int) -> Tensor:
        batch = Batch(index, latents, Condition(embeds), weight, num_tokens)
        return stepper.train_step(index, [batch]).loss

    return model, step


def plain_step(cell: Cell, device: torch.device, *, is_compiled: bool) -> tuple[Any, Step]:
    """A transformer on the device in a plain loop of diffusers and peft, with checkpointing."""
    from peft import LoraConfig, inject_adapter_in_model  # our step runs without

    module = empty_transformer(transformer_build(cell.arch))
    model = random_recipe(module).load(dtype=torch.bfloat16, device=device)
    targets = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "blocks." in n]
    inject_adapter_in_model(LoraConfig(r=cell.rank, lora_alpha=cell.rank, target_modules=targets), model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    for name, buffer in list(model.named_buffers()):
        model.get_submodule(name.rpartition(".")[0])._buffers[name.rpartition(".")[2]] = buffer.to(device)
    model.enable_gradient_checkpointing()
    model.train()
    if is_compiled:
        model.compile_repeated_blocks(fullgraph=True)
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    latents, embeds = _inputs(cell, device)
    tokens, side = latents.flatten(2).transpose(1, 2), cell.side_px // 16
    image_ids, text_ids = position_ids(side, TEXT_TOKENS, device)
    guidance = torch.ones(cell.batch, device=device) if model.config.guidance_embeds else None

    def step(index: int) -> Tensor:
        noise, sigma = torch.randn_like(tokens), torch.rand(cell.batch, device=device)
        noisy = torch.lerp(tokens, noise, sigma[:, None, None])
        with autocast(device, torch.bfloat16):
            velocity = model(noisy, embeds, sigma, image_ids, text_ids, guidance, return_dict=False)[0]
        loss = (velocity.float() - (noise - tokens)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return model, step


def measure(step: Step, *, steps: int, device: torch.device) -> dict[str, Any]:
    """Median time of a step after the warm-up, and the peak memory; CPU time where there is no card."""
    on_card = device.type == "cuda"
    clock = time.perf_counter if on_card else time.process_time
    times, losses = [], []
    for index in range(steps + WARM_UP):
        begin = clock()
        losses.append(step(index))
        if on_card:
            torch.cuda.synchronize()
        times.append(clock() - begin)
    if not all(bool(loss.isfinite()) for loss in losses):
        raise RuntimeError("a loss is not finite")
    times = times[WARM_UP:]
    figures: dict[str, Any] = {"s_per_step": round(statistics.median(times), 4)}
    figures["spread_s"] = [round(min(times), 4), round(max(times), 4)]
    if on_card:
        figures["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
        figures["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()
    return figures


def run_cell(cell: Cell, *, steps: int, device: torch.device, only: Sequence[str]) -> dict[str, Any]:
    """Measure one cell."""
    row: dict[str, Any] = {"cell": cell.name}
    with tempfile.TemporaryDirectory() as temporary:
        config = job_of(cell, Path(temporary))
    if device.type == "cuda" and _arch(cell) == cell.arch:
        row["predicted_bytes"] = predicted_bytes(cell, config)
    arms: dict[str, Callable[[], tuple[Any, Step]]] = {"ours": lambda: our_step(cell, config, device)}
    if cell.has_baseline:
        arms["plain"] = lambda: plain_step(cell, device, is_compiled=False)
    if cell.has_baseline and device.type == "cuda":  # takes minutes to compile on a CPU, for little
        arms["plain compiled"] = lambda: plain_step(cell, device, is_compiled=True)
    arms = {arm: make for arm, make in arms.items() if arm in only}
    for arm, make in arms.items():
        _forget(device)
        with _smaller_card(cell.card_gb, device):
            begin = time.perf_counter()
            model, step = make()
            made_s = round(time.perf_counter() - begin, 2)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            row[arm] = {"made_s": made_s} | measure(step, steps=steps, device=device)
        if isinstance(model, BaseModel):
            model.free("transformer")
        del model, step
    for arm in arms.keys() - {"ours"}:
        row[f"speedup over {arm}"] = round(row[arm]["s_per_step"] / row["ours"]["s_per_step"], 3)
    _forget(device)
    return row


@contextmanager
def _smaller_card(card_gb: float | None, device: torch.device) -> Iterator[None]:
    """Within the `with` block torch takes no more than so many GB of the card; also a step that fails gives it back."""
    if card_gb is None or device.type != "cuda":
        yield
        return
    share = card_gb * GB / torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _arch(cell: Cell) -> str:
    return cell.arch if cell.arch in find_cards() else "flux2_klein_4b"


def _inputs(cell: Cell, device: torch.device) -> tuple[Tensor, Tensor]:
    generator, side = torch.Generator(device).manual_seed(0), cell.side_px // 16
    latents = torch.randn(cell.batch, 128, side, side, device=device, generator=generator)
    width = transformer_build(cell.arch).joint_dim
    embeds = torch.randn(cell.batch, TEXT_TOKENS, width, device=device, generator=generator)
    return latents, embeds.bfloat16()


def _forget(device: torch.device) -> None:
    gc.collect()
    release_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def main() -> None:
    """Measure the cells one after another; the file is written after each, and cells that it has are left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"default: all that fit. Known: {', '.join(CELLS)}")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="start no cell after this; the next call goes on"
    )
    arguments = parser.parse_args()
    has_card = torch.cuda.is_available()
    device = torch.device("cuda" if has_card else "cpu")
    names = arguments.cells or [name for name, cell in CELLS.items() if (cell.arch in ("small", "mid")) != has_card]
    results: dict[str, Any] = {
        **setting(on_card=has_card),
        "rank": RANK,
        "cells": {},
    }
    if arguments.out and arguments.out.exists():
        results["cells"] = json.loads(arguments.out.read_text(encoding="utf-8"))["cells"]
    end = time.monotonic() + 60 * arguments.minutes
    for name in names:
        if name in results["cells"]:
            continue
        if time.monotonic() > end:
            print(f"stopped before {name}: the same call goes on with it", flush=True)
            return
        try:
            results["cells"][name] = run_cell(CELLS[name], steps=arguments.steps, device=device, only=arguments.arms)
        except torch.OutOfMemoryError as error:
            results["cells"][name] = {"cell": CELLS[name].name, "out_of_memory": str(error).splitlines()[0]}
            error.__traceback__ = None
        print(name, json.dumps(results["cells"][name]), flush=True)
        if arguments.out:
            write_json(arguments.out, results)


if __name__ == "__main__":
    main()
