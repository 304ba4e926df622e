"""How the frozen components of one model are held: as they are, quantized, or streamed from host memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from toolkit.config import ModelConfig
from toolkit.memory.activation_offload import ActivationOffload, checkpointed
from toolkit.memory.layer_offload import LayerOffload
from toolkit.memory.placement import choose_placement
from toolkit.quantize.cache_folder import cache_folder
from toolkit.quantize.fill import Quantization, fill_frozen
from toolkit.quantize.quantized_cache import entry_path
from toolkit.weights.recipe import Loadable


class ComponentLoader:
    """Loads components as the `model` section says, and remembers what streams.

    Args:
        config: the `model` section of the job.
        device: where the model computes.
        notify: is given lines for the user.
        count: is told how many layers are quantized, of how many, and that they are layers.
        offload_shares: component -> share of its blocks that streams, 0 to 1, where the job leaves it to the memory
            plan; None without a plan: all of them.
    """

    def __init__(
        self,
        config: ModelConfig,
        device: torch.device,
        *,
        notify: Callable[[str], None] = print,
        count: Callable[[int, int, str], None] = lambda done, total, unit: None,
        offload_shares: Mapping[str, float] | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.notify = notify
        self.count = count
        self.offload_shares = offload_shares
        self._offloads: dict[str, list[LayerOffload]] = {}

    def load(
        self,
        component: str,
        recipe: Loadable,
        *,
        dtype: torch.dtype,
        blocks: Sequence[str],
        layers: Callable[[], Sequence[str]],
        identify: Callable[[], str],
        label: str,
    ) -> nn.Module:
        """The module of a recipe with its weights, frozen.

        Args:
            component: `transformer`, `text_encoder` or `vae`; the latter is always held as it is.
            recipe: where its weights are; not read where quantized weights are in the cache.
            dtype: of what is not quantized.
            blocks: names of its blocks in the order of the forward pass; only whole blocks are streamed.
            layers: names of the linear layers that may be quantized.
            identify: fingerprint of its weights.
            label: what it is, for whoever looks into the cache.

        Raises:
            UserError: the files are damaged, or cannot be quantized.
        """
        module = recipe.module
        qtype = self.qtype(component)
        quantization = None
        if qtype is not None and (names := tuple(layers())):
            entry, folder = None, cache_folder(self.config.quantize_cache)
            if folder is not None:
                entry = entry_path(folder, weights=identify(), qtype=qtype, layers=names, dtype=dtype, label=label)
            quantization = Quantization(
                qtype, names, entry, on_cpu=self.config.low_vram, tell=self.notify, count=self.count
            )
        placement = choose_placement(module, blocks, share=self._share(component), device=self.device)

        def fill(device: torch.device, placed: Callable[[str], None] | None) -> None:
            device_of = placement.device_of if placed is None else None
            recipe.load(dtype=dtype, device=device, device_of=device_of, placed=placed)

        fill_frozen(module, fill, device=self.device, device_of=placement.device_of, quantization=quantization)
        if placement.streamed:
            self._offloads.setdefault(component, []).append(placement.offload(module))
        return module

    def free(self, component: str) -> None:
        """Let go of the host's copies of a component's blocks."""
        while self._offloads.get(component):
            self._offloads[component].pop().detach()  # no name for it here, which would keep its buffers
        self._offloads.pop(component, None)

    def describe(self, component: str) -> str | None:
        """One line on what streams; None if nothing does."""
        lines = [offload.describe() for offload in self._offloads.get(component, ())]
        return "; ".join(lines) or None

    def qtype(self, component: str) -> str | None:
        """The number format of a component's quantized layers; None if it is held as it is."""
        config = self.config
        if component == "transformer" and config.quantize:
            return config.qtype
        return config.qtype_te if component == "text_encoder" and config.quantize_te else None

    def checkpoint_function(self) -> Callable[..., Any]:
        """What runs a block under gradient checkpointing: a function of the block and its arguments."""
        for offloads in self._offloads.values():
            for offload in offloads:
                offload.is_recomputed = True
        return ActivationOffload(self.device) if self.config.activation_offloading else checkpointed

    def _share(self, component: str) -> float:
        """With `low_vram` a text encoder streams as much as it must to fit, also where the job asks for nothing."""
        config = self.config
        share: float | Literal["auto"] = 0.0
        if config.layer_offloading and component == "transformer":
            share = config.layer_offloading_transformer_percent
        elif config.layer_offloading and component == "text_encoder":
            share = config.layer_offloading_text_encoder_percent
        elif config.low_vram and component == "text_encoder" and self.device.type == "cuda":
            share = "auto"
        if share == "auto":
            return 1.0 if self.offload_shares is None else self.offload_shares[component]
        return share
