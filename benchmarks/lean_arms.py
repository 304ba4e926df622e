"""Our LoRA step and the plain one of diffusers and peft, on the same weights, for comparisons side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.lean_sizes import CPU, Inputs, Size
from benchmarks.step import job_of
from benchmarks.step_cells import Cell
from extensions_built_in.diffusion_models.flux2 import lora_names
from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from toolkit.compute.compiler import Compiler
from toolkit.compute.use import use_compute
from toolkit.compute.wide import multiply_wide
from toolkit.config import TrainingProcessConfig
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.parallel.ranks import OneProcess
from toolkit.quantize.fill import quantize_layer
from toolkit.randomness import Draws
from toolkit.runtime.devices import autocast
from toolkit.train.learner import build_learner
from toolkit.train.step import Stepper
from toolkit.train.trainable import NetworkWeights

Velocity = Callable[[Tensor, Tensor], Tensor]  # of noisy latents and sigma


@dataclass(frozen=True)
class Arm:
    """One way to make a step.

    Attributes:
        transformer: the model.
        step: makes one update and returns its loss.
        predict: a forward pass.
        gradients: at the start, the loss and the gradient of each B of the LoRA and of each A, q, k and v summed.
        trained: values of each target's A, and of its B, to copy from one arm to another.
    """

    transformer: Any
    step: Callable[[int], Tensor]
    predict: Callable[[], Tensor]
    gradients: Callable[[], dict[str, Tensor]]
    trained: dict[str, list[Tensor]]


def ours(
    size: Size, *, recomputes: bool, dtype: torch.dtype, compute: str = "bf16", compiler: Compiler | None = None
) -> Arm:
    """The step of a job; see `job_step`."""
    network, step = job_step(size, recomputes=recomputes, dtype=dtype, compute=compute, compiler=compiler)
    trained: dict[str, list[Tensor]] = {}
    for name, part in network.parts.items():
        own: Any = part
        trained |= {f"{name}.A": [own.lora_A], f"{name}.B": list(own.lora_B)}
    transformer = network.model.transformer
    inputs = size.inputs(transformer.config)
    return _arm(transformer, step, _velocity(transformer, inputs, dtype), inputs.latents, trained)


def job_step(
    size: Size,
    *,
    recomputes: bool,
    dtype: torch.dtype,
    compute: str = "bf16",
    compiler: Compiler | None = None,
    settings: dict[str, Any] | None = None,
) -> tuple[Network, Callable[[int], Tensor]]:
    """A network on its model, and a function that makes one update as a job does and returns its loss.

    Args:
        size: the model and its inputs.
        recomputes: whether the blocks recompute.
        dtype: of the products.
        compute: `model.compute`; with `int8` the frozen layers are quantized to int8.
        compiler: compiles the blocks.
        settings: of the job's `network` section; a LoRA of the size's rank without any.
    """
    config = _config(size, dtype, settings or {})
    model: Any = Flux2TinyModel(config.model, device=CPU, dtype=dtype)
    model.transformer = size.transformer(dtype)
    if compute == "int8":
        for name in model.get_quantizable_layers("transformer", model.transformer):
            quantize_layer(model.transformer, name, "int8")
        use_compute(model.transformer, "int8")
    multiply_wide(model.transformer, CPU, dtype)  # as whoever loads it does
    draws = Draws(0)
    assert config.network is not None
    network = Network(model, config.network, draws)
    network.apply()
    model.prepare_backward(recomputes=recomputes)
    if compiler is not None:
        model.compile_blocks(compiler)
    model.transformer.train()
    learner = build_learner(model, NetworkWeights(network), config.train, draws=draws, ranks=OneProcess())
    objective = OBJECTIVES[config.train.objective].load().from_config(config.train)
    stepper = Stepper(learner, objective, draws, OneProcess())
    inputs = size.inputs(model.transformer.config)
    condition = Condition(inputs.embeds.to(dtype), references=inputs.references)

    def step(index: int) -> Tensor:
        batch = Batch(index, inputs.latents, condition, torch.ones(size.batch), size.side**2)
        return stepper.train_step(index, [batch]).loss

    return network, step


def plain(size: Size, *, recomputes: bool, dtype: torch.dtype, is_compiled: bool = False) -> Arm:
    """A plain loop of diffusers and peft.

    Args:
        size: the model and its inputs.
        recomputes: with diffusers' gradient checkpointing.
        dtype: the frozen weights', and autocast's.
        is_compiled: each kind of block is compiled, as diffusers has it.
    """
    from peft import LoraConfig, inject_adapter_in_model  # not in the process that measures our memory

    model = size.transformer(dtype)
    blocks = tuple(lora_names.BLOCK_LISTS)
    targets = [target for target in lora_names.targets(model) if target.name.startswith(blocks)]
    names = [name for target in targets for name in target.modules]
    inject_adapter_in_model(LoraConfig(r=size.rank, lora_alpha=size.rank, target_modules=names), model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if recomputes:
        model.enable_gradient_checkpointing()
    model.train()
    trained: dict[str, list[Tensor]] = {}
    for target in targets:
        layers = [model.get_submodule(name) for name in target.modules]
        trained[f"{target.name}.A"] = [layer.lora_A["default"].weight for layer in layers]
        trained[f"{target.name}.B"] = [layer.lora_B["default"].weight for layer in layers]
    if is_compiled:
        model.compile_repeated_blocks(fullgraph=True)
    inputs = size.inputs(model.config)
    return loop(model, _velocity(model, inputs, dtype), inputs.latents, trained)


def loop(model: Any, velocity: Velocity, latents: Tensor, trained: dict[str, list[Tensor]]) -> Arm:
    """A plain training loop.

    Args:
        model: the transformer.
        velocity: predicts it.
        latents: what is learned.
        trained: see Arm.
    """
    parameters = [value for values in trained.values() for value in values]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def step(index: int) -> Tensor:
        noise, sigma = torch.randn_like(latents), torch.rand(len(latents))
        noisy = torch.lerp(latents, noise, sigma[:, None, None, None])
        loss = (velocity(noisy, sigma).float() - (noise - latents)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return _arm(model, step, velocity, latents, trained)


@torch.no_grad()
def equalize(arms: Sequence[Arm]) -> None:
    """Give all arms the LoRA of the first, which has one A for q, k and v, with random B."""
    generator = torch.Generator().manual_seed(1)
    for name, values in arms[0].trained.items():
        if name.endswith(".B"):
            for value in values:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.02)
        for arm in arms[1:]:
            own = arm.trained[name]
            rows = torch.cat(values).split([len(value) for value in own]) if name.endswith(".B") else values * len(own)
            for value, given in zip(own, rows, strict=True):
                value.copy_(given)


def parity(arm: Arm, wanted: Mapping[str, Tensor]) -> dict[str, float]:
    """Relative error (L2) of the loss, and the median and the largest of those of the LoRA's gradients.

    Args:
        arm: the step.
        wanted: the exact ones, `gradients` of another arm.
    """
    found = arm.gradients()
    errors = {name: float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted}
    loss = errors.pop("loss")
    ordered = sorted(errors.values())
    return {"loss": loss, "gradient_median": ordered[len(ordered) // 2], "gradient_largest": ordered[-1]}


def _velocity(model: Any, inputs: Inputs, dtype: torch.dtype) -> Velocity:
    embeds = inputs.embeds.to(dtype)

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        with autocast(CPU, dtype):
            return predict_velocity(model, noisy, sigma, embeds, guidance=1.0, references=inputs.references)

    return velocity


def _arm(
    model: Any, step: Callable[[int], Tensor], velocity: Velocity, latents: Tensor, trained: dict[str, list[Tensor]]
) -> Arm:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))

    def predict() -> Tensor:
        return velocity(torch.lerp(latents, noise, 0.4), torch.full((len(latents),), 0.4))

    def gradients() -> dict[str, Tensor]:
        for values in trained.values():
            for value in values:
                value.grad = None
        loss = (predict().float() - (noise - latents)).square().mean()
        loss.backward()
        found = {"loss": loss.detach()}
        for name, values in trained.items():
            own = [value.grad for value in values if value.grad is not None]
            found[name] = torch.stack(own).sum(dim=0) if name.endswith(".A") else torch.cat(own)
        return found

    return Arm(model, step, predict, gradients, trained)


def _config(size: Size, dtype: torch.dtype, network: dict[str, Any]) -> TrainingProcessConfig:
    with tempfile.TemporaryDirectory() as folder:
        train = {"dtype": "bf16" if dtype == torch.bfloat16 else "fp32"}
        cell = Cell("small", 256, batch=size.batch, train=train, network=network, rank=size.rank)
        return job_of(cell, Path(folder))
