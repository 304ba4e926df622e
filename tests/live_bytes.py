"""Counts the bytes of live tensors while models of any size run without memory, on torch's fake tensors."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from extensions_built_in.diffusion_models.flux2 import lora_keys
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from toolkit.train.precision import autocast

# Heads, double blocks, single blocks and width of the text as released.
SHAPES = {"flux2": (48, 8, 48, 15360), "flux2_klein_4b": (24, 5, 20, 7680), "flux2_klein_9b": (32, 8, 24, 12288)}


def config_of(arch: str) -> dict[str, Any]:
    """The transformer's config as it was released."""
    heads, double, single, text = SHAPES[arch]
    return {
        "num_attention_heads": heads,
        "num_layers": double,
        "num_single_layers": single,
        "joint_attention_dim": text,
        "attention_head_dim": 128,
        "in_channels": 128,
        "mlp_ratio": 3.0,
        "axes_dims_rope": (32, 32, 32, 32),
        "guidance_embeds": arch == "flux2",
    }


class LiveBytes(TorchDispatchMode):
    """Inside the `with` block, `now` is what live storages made there take, `peak` the most so far."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


@contextmanager
def norms_as_on_cuda(is_mixed: bool) -> Iterator[None]:
    """CUDA's autocast computes norms in fp32; a CPU's does not."""
    names = ("layer_norm", "rms_norm", "group_norm")
    originals = {name: getattr(functional, name) for name in names}

    def in_fp32(norm: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            wide = [arg.float() if isinstance(arg, torch.Tensor) else arg for arg in args]
            return norm(*wide, **kwargs)

        return call

    try:
        for name in names if is_mixed else ():
            setattr(functional, name, in_fp32(originals[name]))
        yield
    finally:
        for name in names:
            setattr(functional, name, originals[name])


def step_bytes(
    config: dict[str, Any],
    *,
    side_px: int,
    dtype: torch.dtype = torch.bfloat16,
    rank: int | None = 16,
    recomputes: bool = True,
    batch_size: int = 1,
    num_references: int = 0,
) -> int:
    """The most that a training step adds to weights and LoRA; a full fine-tune's weights are fp32."""
    cells = side_px // 16
    with FakeTensorMode(allow_non_fake_inputs=True), norms_as_on_cuda(dtype != torch.float32), LiveBytes() as live:
        model = _transformer(config, dtype=dtype, rank=rank)
        if recomputes:
            model.enable_gradient_checkpointing()
        before = live.peak = live.now
        latents = [torch.empty(batch_size, config["in_channels"], cells, cells) for _ in range(1 + num_references)]
        embeds = torch.empty(batch_size, 512, config["joint_attention_dim"], dtype=dtype)
        with autocast(torch.device("cpu"), dtype):
            velocity = predict_velocity(
                model, latents[0], torch.empty(batch_size), embeds, guidance=1.0, references=latents[1:]
            )
        (velocity.float() - latents[0]).square().mean().backward()
        return live.peak - before


def forward_bytes(config: dict[str, Any], *, side_px: int, dtype: torch.dtype = torch.bfloat16) -> int:
    """The most that a pass without gradients adds to the weights."""
    cells = side_px // 16
    with FakeTensorMode(allow_non_fake_inputs=True), norms_as_on_cuda(dtype != torch.float32), LiveBytes() as live:
        model = _transformer(config, dtype=dtype, rank=16)
        before = live.peak = live.now
        latents = torch.empty(1, config["in_channels"], cells, cells)
        embeds = torch.empty(1, 512, config["joint_attention_dim"], dtype=dtype)
        with torch.no_grad(), autocast(torch.device("cpu"), dtype):
            predict_velocity(model, latents, torch.empty(1), embeds, guidance=1.0)
        return live.peak - before


def vae_bytes(config: dict[str, Any], *, side_px: int, dtype: torch.dtype) -> tuple[int, int]:
    """The most that encoding a picture, and decoding it under autocast, adds to the weights."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), LiveBytes() as live:
        vae = _in_dtype(AutoencoderKLFlux2, config, dtype).eval()
        pixels = torch.empty(1, 3, side_px, side_px, dtype=dtype)
        before = live.peak = live.now
        latents = vae.encode(pixels).latent_dist.mode()
        encode = live.peak - before
        before = live.peak = live.now
        with norms_as_on_cuda(dtype != torch.float32), autocast(torch.device("cpu"), dtype):
            vae.decode(latents)
        return encode, live.peak - before


def _transformer(config: dict[str, Any], *, dtype: torch.dtype, rank: int | None) -> nn.Module:
    with torch.device("meta"):
        own = dtype if rank is not None else torch.float32
        model = _in_dtype(Flux2Transformer2DModel, config, own).requires_grad_(rank is None)
        if rank is not None:
            blocks = tuple(lora_keys.BLOCK_LISTS)
            names = [
                name for target in lora_keys.targets(model) if target.name.startswith(blocks) for name in target.modules
            ]
            inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), model)
    for module in model.modules():
        for name, old in list(module._parameters.items()):
            if old is not None:
                wanted = torch.float32 if old.requires_grad else old.dtype
                new = torch.empty(old.shape, dtype=wanted)
                module._parameters[name] = nn.Parameter(new, requires_grad=old.requires_grad)
    return model.train()


def _in_dtype(kind: Any, config: dict[str, Any], dtype: torch.dtype) -> Any:
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return kind(**config)
    finally:
        torch.set_default_dtype(usual)
