"""Counts the bytes of live tensors while models of any size run without memory, on torch's fake tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, Flux2Transformer2DModel, FluxTransformer2DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from extensions_built_in.diffusion_models.flux import lora_names as flux_keys
from extensions_built_in.diffusion_models.flux.lean import attach_lean as flux_lean
from extensions_built_in.diffusion_models.flux.transformer import predict_velocity as flux_velocity
from extensions_built_in.diffusion_models.flux2 import lora_names as flux2_keys
from extensions_built_in.diffusion_models.flux2.lean import attach_lean as flux2_lean
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity as flux2_velocity
from toolkit.cards import find_cards
from toolkit.memory.recompute import BlockValue
from toolkit.networks.kinds.lora import LoraPart
from toolkit.networks.network import LayerHook
from toolkit.networks.part import Site
from toolkit.networks.settings import LayerSettings, Shape
from toolkit.runtime.devices import autocast


@dataclass(frozen=True)
class Family:
    """What the models of a family are made of.

    Attributes:
        transformer, vae: diffusers' classes.
        lora_names: module that names the transformer's layers.
        predict_velocity: the family's forward pass.
        attach_lean: gives blocks the backward pass that the family has written for them.
        prompt_rows: of an encoded prompt.
        cell_px: side of a cell of the latents.
        config: of every transformer of the family; the rest is in `SHAPES`.
        vae_config: as released.
    """

    transformer: Any
    vae: Any
    lora_names: Any
    predict_velocity: Callable[..., Tensor]
    attach_lean: Callable[..., Any]
    prompt_rows: int
    cell_px: int
    config: Mapping[str, Any]
    vae_config: Mapping[str, Any] = field(default_factory=dict)


FAMILIES = {
    "flux": Family(
        FluxTransformer2DModel,
        AutoencoderKL,
        flux_keys,
        flux_velocity,
        flux_lean,
        prompt_rows=513,
        cell_px=8,
        config={"in_channels": 64, "axes_dims_rope": (16, 56, 56), "guidance_embeds": True},
        vae_config={
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
            "latent_channels": 16,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        },
    ),
    "flux2": Family(
        Flux2Transformer2DModel,
        AutoencoderKLFlux2,
        flux2_keys,
        flux2_velocity,
        flux2_lean,
        prompt_rows=512,
        cell_px=16,
        config={"in_channels": 128, "mlp_ratio": 3.0, "axes_dims_rope": (32, 32, 32, 32), "guidance_embeds": False},
    ),
}
# Heads, double blocks, single blocks and width of the text as released.
SHAPES = {
    "flux": (24, 19, 38, 4096),
    "flux2": (48, 8, 48, 15360),
    "flux2_klein_4b": (24, 5, 20, 7680),
    "flux2_klein_9b": (32, 8, 24, 12288),
}


def family_of(arch: str) -> Family:
    """The classes of an arch."""
    return FAMILIES[find_cards()[arch].family]


def config_of(arch: str, *, num_double: int | None = None, num_single: int | None = None) -> dict[str, Any]:
    """The transformer's config as it was released, or with fewer blocks."""
    heads, double, single, text = SHAPES[arch]
    own = {"guidance_embeds": True} if arch == "flux2" else {}
    return {
        **family_of(arch).config,
        **own,
        "num_attention_heads": heads,
        "num_layers": double if num_double is None else num_double,
        "num_single_layers": single if num_single is None else num_single,
        "joint_attention_dim": text,
        "attention_head_dim": 128,
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
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
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
    arch: str,
    *,
    side_px: int,
    dtype: torch.dtype = torch.bfloat16,
    rank: int | None = 16,
    recomputes: bool = True,
    batch_size: int = 1,
    num_references: int = 0,
    passes: int = 1,
    only: str = "",
    own_backward: bool = False,
    **num_blocks: int,
) -> int:
    """The most that a step of so many passes, each backward before the next, adds to weights and LoRA.

    A full fine-tune's weights are fp32; those whose names contain `only` are trained. With `own_backward`, blocks have
    the backward pass that the family has written for them.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), norms_as_on_cuda(dtype != torch.float32), LiveBytes() as live:
        model = _transformer(arch, dtype=dtype, rank=rank, **num_blocks)
        for name, parameter in model.named_parameters() if rank is None else ():
            parameter.requires_grad_(only in name)
        if own_backward:
            family_of(arch).attach_lean(model, lambda _: torch.device("cpu"), keeps=1.0 if recomputes else 2.0)
        elif recomputes:
            model.enable_gradient_checkpointing()
        before = live.peak = live.now
        latents = [_latents(arch, side_px, batch_size) for _ in range(1 + num_references)]
        for _ in range(passes):
            with autocast(torch.device("cpu"), dtype):
                velocity = _predict(arch, model, latents, dtype)
            (velocity.float() - latents[0]).square().mean().backward()
        return live.peak - before


def forward_bytes(
    arch: str, *, side_px: int, batch_size: int = 1, dtype: torch.dtype = torch.bfloat16, **num_blocks: int
) -> int:
    """The most that a pass without gradients adds to the weights."""
    with FakeTensorMode(allow_non_fake_inputs=True), norms_as_on_cuda(dtype != torch.float32), LiveBytes() as live:
        model = _transformer(arch, dtype=dtype, rank=16, **num_blocks)
        before = live.peak = live.now
        latents = _latents(arch, side_px, batch_size)
        with torch.no_grad(), autocast(torch.device("cpu"), dtype):
            _predict(arch, model, [latents], dtype)
        return live.peak - before


def vae_bytes(arch: str, *, side_px: int, dtype: torch.dtype) -> tuple[int, int]:
    """The most that encoding a picture, and decoding it, adds to the weights."""
    family = family_of(arch)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), LiveBytes() as live:
        vae = _in_dtype(family.vae, family.vae_config, dtype).eval()
        pixels = torch.empty(1, 3, side_px, side_px, dtype=dtype)
        before = live.peak = live.now
        latents = vae.encode(pixels).latent_dist.mode()
        encode = live.peak - before
        before = live.peak = live.now
        vae.decode(latents)
        return encode, live.peak - before


def _latents(arch: str, side_px: int, batch_size: int) -> Tensor:
    """As many numbers as the transformer's tokens have, which stand for 16 x 16 pixels each."""
    family = family_of(arch)
    cells = side_px // family.cell_px
    return torch.empty(batch_size, family.config["in_channels"] * family.cell_px**2 // 16**2, cells, cells)


def _predict(arch: str, model: Any, latents: list[Tensor], dtype: torch.dtype) -> Tensor:
    family, batch_size = family_of(arch), len(latents[0])
    embeds = torch.empty(batch_size, family.prompt_rows, model.config.joint_attention_dim, dtype=dtype)
    sigma = torch.empty(batch_size)
    return family.predict_velocity(model, latents[0], sigma, embeds, guidance=1.0, references=latents[1:])


def _transformer(arch: str, *, dtype: torch.dtype, rank: int | None, **num_blocks: int) -> Any:
    family = family_of(arch)
    with torch.device("meta"):
        own = dtype if rank is not None else torch.float32
        model = _in_dtype(family.transformer, config_of(arch, **num_blocks), own).requires_grad_(rank is None)
        if rank is not None:
            blocks = tuple(family.lora_names.BLOCK_LISTS)
            targets = family.lora_names.targets(model)
            for target in targets:
                if target.name.startswith(blocks):
                    _add_lora(tuple(map(model.get_submodule, target.modules)), rank)
    return _with_storages(model).train()


def frozen_transformer(arch: str, *, dtype: torch.dtype, **num_blocks: int) -> Any:
    """A transformer without network; call it while tensors are fake."""
    with torch.device("meta"):
        config = config_of(arch, **num_blocks)
        return _with_storages(_in_dtype(family_of(arch).transformer, config, dtype).requires_grad_(False))


def _with_storages(model: nn.Module) -> nn.Module:
    """The model with weights in place of those on the meta device; trained ones are fp32."""
    for module in model.modules():
        for name, old in list(module._parameters.items()):
            if old is not None:
                wanted = torch.float32 if old.requires_grad else old.dtype
                new = torch.empty(old.shape, dtype=wanted, device="cpu")
                module._parameters[name] = nn.Parameter(new, requires_grad=old.requires_grad)
    return model


def _add_lora(layers: tuple[Any, ...], rank: int) -> None:
    rows = layers[0].out_features
    shape = Shape(layers[0].in_features, rows * len(layers), len(layers))
    part = LoraPart(shape, LayerSettings(rank), lambda sizes, _: torch.empty(sizes))
    layers[0].add_module("network", part)
    for index, layer in enumerate(layers):
        site = Site(index, ((index * rows, (index + 1) * rows),), layers)
        layer.register_forward_hook(LayerHook(part, site, BlockValue(1.0)))


def _in_dtype(kind: Any, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return kind(**config)
    finally:
        torch.set_default_dtype(usual)
