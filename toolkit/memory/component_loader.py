"""Loads the frozen components of a model: unquantized or quantized, on one device, on several or streamed from RAM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from toolkit.compute.use import compute_as
from toolkit.compute.wide import multiply_wide
from toolkit.config import ModelConfig
from toolkit.memory.activation_offload import ActivationOffload
from toolkit.memory.card_split import CardSplit
from toolkit.memory.layer_offload import LayerOffload
from toolkit.memory.placement import Placement, Planned, choose_placement, split_over
from toolkit.memory.recompute import checkpointed
from toolkit.memory.sharded import parameter_shapes, rows_of_module, spread
from toolkit.parallel.weight_layout import WeightLayout, WholeWeights
from toolkit.quantize.cache_folder import cache_folder
from toolkit.quantize.fill import Quantization, fill_frozen
from toolkit.quantize.quantized_cache import entry_path
from toolkit.runtime.devices import memory_of
from toolkit.weights.recipe import Loadable

if TYPE_CHECKING:
    from toolkit.parallel.shards import Shards


OwnBackward = Callable[..., bool]


class ComponentLoader:
    """Loads components as the `model` section says, and keeps track of what is streamed.

    Args:
        config: the `model` section of the job.
        device: the device that the model runs on.
        notify: called with lines for the user.
        count: called with the number of quantized layers, of how many, and the word `layers`.
        planned: where the memory plan wants components.
        layout: which part of the transformer's weights this process holds.
    """

    def __init__(
        self,
        config: ModelConfig,
        device: torch.device,
        *,
        notify: Callable[[str], None] = print,
        count: Callable[[int, int, str], None] = lambda done, total, unit: None,
        planned: Planned = Planned(),  # noqa: B008 - frozen
        layout: WeightLayout = WholeWeights(),  # noqa: B008 - stateless
    ) -> None:
        self.config = config
        self.device = device
        self.notify = notify
        self.count = count
        self.planned = planned
        self._cards: CardSplit | None = None
        self.layout = layout
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
        """Load a component and return its frozen module.

        Args:
            component: `transformer`, `text_encoder` or `vae`; the VAE is never quantized or streamed.
            recipe: the module and where its weights are; weights are not read if the cache has quantized ones.
            dtype: dtype of the weights that are not quantized.
            blocks: names of the component's blocks in the order of the forward pass; only whole blocks are streamed,
                or put on another card.
            layers: returns the names of the linear layers to quantize.
            identify: returns a fingerprint of the component's weights.
            label: human-readable start of the file name in the cache.

        Raises:
            UserError: the files are damaged, or cannot be quantized.
        """
        module = recipe.module
        shards = None if self.layout.is_whole or component != "transformer" else cast("Shards", self.layout)
        rows, shapes = (rows_of_module(module, shards) if shards else None), parameter_shapes(module)
        qtype = self.qtype(component)
        quantization = None
        if qtype is not None and (names := tuple(layers())):
            entry, folder = None, cache_folder(self.config.quantize_cache)
            if folder is not None:
                entry = entry_path(folder, weights=identify(), qtype=qtype, layers=names, dtype=dtype, label=label)
            quantization = Quantization(
                *(qtype, names, entry, tuple(blocks)),
                on_cpu=self.config.low_vram,
                notify=self.notify,
                count=self.count,
            )
        placement = self._placement(component, module, blocks)

        def fill(device: torch.device, placed: Callable[[str], None] | None) -> None:
            device_of = placement.device_of if placed is None else None
            recipe.load(dtype=dtype, device=device, device_of=device_of, placed=placed, rows=rows)

        fill_frozen(
            module, fill, device=self.device, device_of=placement.device_of, quantization=quantization, rows=rows
        )
        if component == "transformer":
            compute_as(self.config, module, str(self.device))
            if shards is None:
                multiply_wide(module, self.device, dtype)
        if shards is not None:
            spread(module, shapes, shards)
        if placement.streamed:
            offload = placement.offload(module, is_compiled=self.config.compile)
            self._offloads.setdefault(component, []).append(offload)
        if placement.cards:
            self._cards = placement.split(module)
        return module

    def free(self, component: str) -> None:
        """Free the host copies of a component's blocks."""
        while self._offloads.get(component):
            self._offloads[component].pop().detach()  # a local name would keep its buffers alive
        self._offloads.pop(component, None)
        if component == "transformer":
            self._cards = None

    def describe(self, component: str) -> str | None:
        """One line on what is streamed or on other cards; None if nothing is."""
        lines = [offload.describe() for offload in self._offloads.get(component, ())]
        if component == "transformer" and self._cards is not None:
            lines.append(self._cards.describe())
        return "; ".join(lines) or None

    def device_of(self, layer: nn.Module) -> torch.device:
        """The device that a layer of the loaded transformer computes on, whether its weights are streamed or not."""
        return self.device if self._cards is None else self._cards.device_of(layer)

    def qtype(self, component: str) -> str | None:
        """The number format of a component's quantized layers; None if it is not quantized."""
        config = self.config
        if component == "transformer" and config.quantize:
            return config.qtype
        return config.qtype_te if component == "text_encoder" and config.quantize_te else None

    def checkpoint_function(self, own: Mapping[nn.Module, OwnBackward] = MappingProxyType({})) -> Callable[..., Any]:
        """The function that runs a block with gradient checkpointing, given the block and its arguments.

        Args:
            own: blocks with a backward pass of their own that keeps as little, each with a function that says, given
                the block's arguments, whether it is used. Such a block is run as it is, unless activations are
                offloaded: then only its inputs are kept.
        """
        if self.config.activation_offloading:
            own = {}
        for offloads in self._offloads.values():
            for offload in offloads:
                offload.is_recomputed, offload.own_backward = True, own.keys()
        run: Callable[..., Any] = ActivationOffload() if self.config.activation_offloading else partial(_run_block, own)
        return run if self._cards is None else self._cards.before(run)

    def _placement(self, component: str, module: nn.Module, blocks: Sequence[str]) -> Placement:
        if component == "transformer" and self.planned.split is not None:
            return split_over(module, blocks, split=self.planned.split, rooms=memory_of(self.planned.split.cards))
        return choose_placement(module, blocks, share=self._share(component), device=self.device)

    def _share(self, component: str) -> float:
        """The share of a component to stream. With `low_vram`, the text encoder always streams as much as needed."""
        config = self.config
        share: float | Literal["auto"] = 0.0
        if config.layer_offloading and component == "transformer":
            share = config.layer_offloading_transformer_percent
        elif config.layer_offloading and component == "text_encoder":
            share = config.layer_offloading_text_encoder_percent
        elif config.low_vram and component == "text_encoder" and self.device.type == "cuda":
            share = "auto"
        if share == "auto":
            return 1.0 if self.planned.shares is None else self.planned.shares[component]
        return share


def _run_block(own: Mapping[nn.Module, OwnBackward], block: nn.Module, *arguments: Any) -> Any:
    takes = own.get(block)
    return block(*arguments) if takes is not None and takes(*arguments) else checkpointed(block, *arguments)
