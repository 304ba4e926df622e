"""Our LoRA step and the plain one of diffusers and peft, on the same weights, for comparisons side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor

from benchmarks.random_model import TINY, empty_transformer, random_recipe, transformer_build
from benchmarks.step import job_of
from benchmarks.step_cells import Cell
from extensions_built_in.diffusion_models.flux2 import lora_names
from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from toolkit.compute.compiler import Compiler
from toolkit.compute.wide import multiply_wide
from toolkit.config import TrainingProcessConfig
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.runtime.devices import autocast
from toolkit.train.learner import build_learner
from toolkit.train.step import Stepper
from toolkit.train.trainable import NetworkWeights

CPU, RANK = torch.device("cpu"), 16


@dataclass(frozen=True)
class Size:
    """A model and its inputs.

    Attributes:
        name: of `transformer_build`, or `tiny` for the model that is shipped.
        side: tokens along a side of the image.
        num_text: tokens of the prompt.
    """

    name: str
    side: int
    num_text: int

    def transformer(self, dtype: torch.dtype) -> Any:
        """The transformer; equal weights at every call."""
        if self.name == "tiny":
            model = Flux2Transformer2DModel.from_pretrained(TINY, subfolder="transformer", torch_dtype=torch.bfloat16)
            for parameter in model.requires_grad_(False).parameters():
                parameter.data = parameter.data.to(dtype)
            return model
        torch.manual_seed(0)
        model = random_recipe(empty_transformer(transformer_build(self.name))).load(dtype=torch.bfloat16, device=CPU)
        return model.to(dtype)

    def inputs(self, config: Any) -> tuple[Tensor, Tensor]:
        """Latents [1, C, side, side] and prompt embeddings [1, L, D]."""
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(1, config.in_channels, self.side, self.side, generator=generator)
        return latents, torch.randn(1, self.num_text, config.joint_attention_dim, generator=generator)


SIZES = {"tiny": Size("tiny", 8, 48), "small": Size("small", 16, 512), "mid": Size("mid", 16, 512)}


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


def ours(size: Size, *, recomputes: bool, dtype: torch.dtype, compiler: Compiler | None = None) -> Arm:
    """The step of a job; with a compiler that of one with `model.compile`."""
    network, step = job_step(size, recomputes=recomputes, dtype=dtype, compiler=compiler)
    trained: dict[str, list[Tensor]] = {}
    for name, part in network.parts.items():
        own: Any = part
        trained |= {f"{name}.A": [own.lora_A], f"{name}.B": list(own.lora_B)}
    transformer = network.model.transformer
    latents, embeds = size.inputs(transformer.config)
    return _arm(transformer, step, (latents, embeds.to(dtype)), dtype, trained)


def job_step(
    size: Size,
    *,
    recomputes: bool,
    dtype: torch.dtype,
    compiler: Compiler | None = None,
    settings: dict[str, Any] | None = None,
) -> tuple[Network, Callable[[int], Tensor]]:
    """A network on its model, and a function that makes one update as a job does and returns its loss.

    Args:
        size: the model and its inputs.
        recomputes: whether the blocks recompute.
        dtype: of the products.
        compiler: compiles the blocks.
        settings: of the job's `network` section; a LoRA of rank `RANK` without any.
    """
    config = _config(dtype, settings or {})
    model: Any = Flux2TinyModel(config.model, device=CPU, dtype=dtype)
    model.transformer = size.transformer(dtype)
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
    latents, embeds = size.inputs(model.transformer.config)
    embeds = embeds.to(dtype)

    def step(index: int) -> Tensor:
        batch = Batch(index, latents, Condition(embeds), torch.ones(1), size.side**2)
        return stepper.train_step(index, [batch]).loss

    return network, step


def plain(size: Size, *, recomputes: bool, dtype: torch.dtype) -> Arm:
    """A plain loop of diffusers and peft; `recomputes`: with diffusers' gradient checkpointing."""
    from peft import LoraConfig, inject_adapter_in_model  # not in the process that measures our memory

    model = size.transformer(dtype)
    blocks = tuple(lora_names.BLOCK_LISTS)
    targets = [target for target in lora_names.targets(model) if target.name.startswith(blocks)]
    names = [name for target in targets for name in target.modules]
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names), model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    if recomputes:
        model.enable_gradient_checkpointing()
    model.train()
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    latents, embeds = size.inputs(model.config)
    embeds = embeds.to(dtype)
    trained: dict[str, list[Tensor]] = {}
    for target in targets:
        layers = [model.get_submodule(name) for name in target.modules]
        trained[f"{target.name}.A"] = [layer.lora_A["default"].weight for layer in layers]
        trained[f"{target.name}.B"] = [layer.lora_B["default"].weight for layer in layers]

    def step(index: int) -> Tensor:
        noise, sigma = torch.randn_like(latents), torch.rand(1)
        with autocast(CPU, dtype):
            noisy = torch.lerp(latents, noise, sigma[:, None, None, None])
            velocity = predict_velocity(model, noisy, sigma, embeds, guidance=1.0)
        loss = (velocity.float() - (noise - latents)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return _arm(model, step, (latents, embeds), dtype, trained)


@torch.no_grad()
def equalize(arms: Sequence[Arm]) -> None:
    """Give all arms the LoRA of the first, with random B."""
    generator = torch.Generator().manual_seed(1)
    for name, values in arms[0].trained.items():
        if name.endswith(".B"):
            for value in values:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.02)
        for arm in arms[1:]:
            own = arm.trained[name]
            for index, value in enumerate(own):
                value.copy_(values[index if len(values) == len(own) else 0])


def parity(arm: Arm, exact: Arm) -> dict[str, float]:
    """Relative error (L2) of the loss, and the median and the largest of those of the LoRA's gradients."""
    found, wanted = arm.gradients(), exact.gradients()
    errors = {name: float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted}
    loss = errors.pop("loss")
    ordered = sorted(errors.values())
    return {"loss": loss, "gradient_median": ordered[len(ordered) // 2], "gradient_largest": ordered[-1]}


def _arm(
    model: Any,
    step: Callable[[int], Tensor],
    inputs: tuple[Tensor, Tensor],
    dtype: torch.dtype,
    trained: dict[str, list[Tensor]],
) -> Arm:
    latents, embeds = inputs
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))

    def predict() -> Tensor:
        noisy, sigma = torch.lerp(latents, noise, 0.4), torch.full((1,), 0.4)
        with autocast(CPU, dtype):
            return predict_velocity(model, noisy, sigma, embeds, guidance=1.0)

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


def _config(dtype: torch.dtype, network: dict[str, Any]) -> TrainingProcessConfig:
    with tempfile.TemporaryDirectory() as folder:
        train = {"dtype": "bf16" if dtype == torch.bfloat16 else "fp32"}
        return job_of(Cell("small", 256, train=train, network=network), Path(folder))
