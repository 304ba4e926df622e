"""The questions that every model answers, so that the rest of the trainer never asks which model it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from toolkit.compute.compiler import Compiler
from toolkit.config import SampleItem
from toolkit.errors import UserError
from toolkit.lora.parse import parse
from toolkit.lora.update import Location, LoraTarget, SizedTarget, Update, state_of, updates_of
from toolkit.memory.component_loader import ComponentLoader
from toolkit.models.components import Component, ComponentModel
from toolkit.models.condition import Condition, SampleCondition
from toolkit.models.contract import check_answers
from toolkit.models.prompt_cut import PromptCut
from toolkit.models.sites import AttentionSite, Ends

__all__ = [
    "AttentionSite",
    "BaseModel",
    "Component",
    "Ends",
    "LoraTarget",
    "OwnBackward",
    "PromptCut",
    "SizedTarget",
    "StateDict",
]

StateDict = dict[str, Tensor]


class OwnBackward(Protocol):
    """A backward pass that the blocks of a loaded transformer have of their own."""

    def prepare(self, loader: ComponentLoader, *, recomputes: bool, keeps: float) -> str:
        """See `BaseModel.prepare_backward`."""
        ...

    def compile(self, compiler: Compiler) -> None:
        """See `BaseModel.compile_blocks`."""
        ...


class BaseModel(ComponentModel):
    """A model that can be trained. Components are loaded one by one, when a stage of the plan needs them.

    A subclass sets `arch` and implements every abstract method; what it forgot is reported when the class is defined. A
    base class that is not a model passes `is_abstract=True`. `text_encoder` and so on are None until loaded. The
    trainer asks the questions below and those of `ComponentModel`; `KnownNames` has those that only scripts and
    extensions ask.
    """

    arch: ClassVar[str]
    base_model_version: ClassVar[str | None] = None  # set if other programs' file headers name the model differently
    max_text_tokens: ClassVar[int] = 512

    def __init_subclass__(cls, *, is_abstract: bool = False) -> None:
        if not is_abstract:
            check_answers(cls)

    # Text and images

    @abstractmethod
    def get_prompt_embeds(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts, which only the model interprets. Needs the text encoder.

        Returns:
            [B, L, D] in the model's dtype and on its device, padded to the length used at inference.
        """

    def load_text_layer(self) -> nn.Module:
        """The transformer's first layer for text, loaded alone: with `embeds_text`, prompts are kept as it gives them.

        The card says whether there is one (`text_layer_width`). Rows [B, L, D] become [B, L, text_layer_width], each by
        itself.
        """
        raise NotImplementedError(
            f"{self.arch}: the card has a `text_layer_width`, but the model does not load the layer"
        )

    def cut_prompt(self, prompt: str) -> PromptCut | None:
        """Where a prompt that is too long is cut off; None if all of it is read. Loads no weights."""
        return None

    @abstractmethod
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Encode pixels [B, 3, H, W] in -1..1 into clean, normalised latents [B, C, h, w]. Needs the VAE."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode normalised latents [B, C, h, w] into pixels [B, 3, H, W] in -1..1. Needs the VAE."""

    # Training

    @abstractmethod
    def get_noise_prediction(self, noisy_latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """The model's velocity. Needs the transformer.

        Args:
            noisy_latents: mix of clean latents and noise, [B, C, h, w].
            timestep: 1000 * sigma of each sample, [B], fp32, 0..1000.
            condition: everything else that the prediction depends on.

        Returns:
            Velocity `noise - latents`, [B, C, h, w].
        """

    def get_loss_target(self, latents: Tensor, noise: Tensor) -> Tensor:
        """What the prediction is compared with: the velocity of the straight path (arXiv 2209.03003)."""
        return noise - latents

    def get_bucket_divisibility(self) -> int:
        """Image sides are multiples of this many pixels."""
        return self.card.divisor_px

    def num_tokens(self, width: int, height: int) -> int:
        """Sequence length of an image of this size in pixels; timestep shifts depend on it."""
        return (width // self.get_bucket_divisibility()) * (height // self.get_bucket_divisibility())

    def own_backward(self) -> OwnBackward | None:
        """The backward pass that this model's blocks have of their own; None if they have autograd's."""
        return None

    def prepare_backward(self, *, recomputes: bool, keeps: float = 1.0) -> str:
        """Decide what blocks keep for backward, once all is attached (`keeps`: see PlanInputs). Returns one line."""
        own = self._own_backward()
        if own is not None:
            keeps = 0.0 if self.model_config.activation_offloading else keeps
            return own.prepare(self.loader, recomputes=recomputes, keeps=keeps)
        if recomputes:
            self.enable_gradient_checkpointing()
        general = "are recomputed by autograd" if recomputes else "keep what autograd keeps"
        why = "this model's have no backward pass of their own" if self.layout.is_whole else "ranks share their weights"
        return f"backward pass: blocks {general}, because {why}"

    def compile_blocks(self, compiler: Compiler) -> None:
        """Compile what blocks compute, once `prepare_backward` has been called, and report it through the compiler."""
        own = self._own_backward()
        if own is not None:
            own.compile(compiler)
            return
        why = "this model's have no backward pass of their own" if self.layout.is_whole else "ranks share their weights"
        compiler.warn(f"model.compile: no block is compiled, because {why}")

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each block in backward instead of keeping its activations. Expects a diffusers transformer."""
        if self._own_backward() is not None:
            self.prepare_backward(recomputes=True)
        else:
            self.transformer.enable_gradient_checkpointing(self.loader.checkpoint_function())

    def _own_backward(self) -> OwnBackward | None:
        """`own_backward`, unless weights are shared: then blocks gather them by hooks of their own."""
        return self.own_backward() if self.layout.is_whole else None

    # Adapters

    def device_of(self, layer: nn.Module) -> torch.device:
        """The device that a layer of the loaded transformer computes on, for what is added to it."""
        return self.loader.device_of(layer)

    def get_attention_sites(self) -> list[AttentionSite]:
        """The attention layers that adapters add to, in model order; empty if the model names none."""
        return []

    def get_ends(self) -> Ends | None:
        """The first and the last layer of the transformer; None if the model does not name them."""
        return None

    def noisy_tokens(self, num_noisy: int, num_image: int) -> slice:
        """Where, among the `num_image` image tokens of the sequence, the `num_noisy` tokens of the noisy image are."""
        return slice(0, num_noisy)

    def tokens_of(self, latents: Tensor) -> Tensor:
        """Maps on the grid of the latents, [B, C, h, w], as the transformer's tokens, [B, S, C * cells per token]."""
        return latents.flatten(2).transpose(1, 2)

    # LoRA

    @abstractmethod
    def get_transformer_block_names(self) -> list[str]:
        """Names of the block lists, as LoRA files spell them; LoRA is applied to the linear layers inside these."""

    @abstractmethod
    def get_lora_targets(self) -> list[LoraTarget]:
        """Every linear layer that may carry LoRA, in model order."""

    def plan_lora_targets(self) -> list[SizedTarget]:
        """What `get_lora_targets` will return once the job's transformer is loaded; empty if not known before that."""
        return []

    @classmethod
    @abstractmethod
    def locate_layer(cls, name: str) -> Location | None:
        """Find a layer by any of its names, dotted or with underscores; None if the model has no such layer.

        A name in `LoraTarget.modules` always gives a `LayerLocation`; only other programs' files fuse several targets.
        """

    @classmethod
    @abstractmethod
    def write_lora(cls, updates: Mapping[str, Update], file_format: str) -> StateDict:
        """The tensors of a LoRA file.

        Args:
            updates: the update of each layer, by `LoraTarget.name`.
            file_format: one of `save.lora_format`.

        Raises:
            UserError: the format cannot carry one of the layers.
        """

    def convert_lora_weights_before_save(self, state_dict: StateDict, file_format: str = "bfl") -> StateDict:
        """Rename `<LoraTarget.name>.lora_A/B.weight` to the keys of the file."""
        return self.write_lora(updates_of(state_dict), file_format)

    def convert_lora_weights_before_load(
        self, state_dict: StateDict, metadata: Mapping[str, str] | None = None
    ) -> StateDict:
        """Rename a file's keys, in any format, to `<LoraTarget.name>.lora_A/B.weight`; fp32, with alpha folded in.

        Raises:
            UserError: the model does not know some of the keys.
        """
        return state_of(parse(state_dict, metadata or {}, self.locate_layer))

    # The whole model

    def plan_transformer(self) -> nn.Module | None:
        """The transformer that the job will load, on the meta device; None if not known before it is loaded."""
        return None

    @abstractmethod
    def model_state_to_save(self) -> StateDict:
        """The transformer's weights under the names of the released single file."""

    def name_as_released(self, weights: StateDict) -> StateDict:
        """Rename all weights from the library's names to those of the released single file.

        Raises:
            UserError: the model has no single file.
        """
        raise UserError(f"{self.card.label} is saved as a folder only: set `save.save_format: diffusers`.")

    def get_base_model_version(self) -> str:
        """Value of `ss_base_model_version` in the metadata of saved files."""
        return self.base_model_version or self.arch

    # Sampling

    def get_sampling_sigmas(self, num_steps: int, num_tokens: int) -> Tensor:
        """The noise levels between the pipeline's steps, [num_steps + 1], fp32, from 1 to 0."""
        return torch.linspace(1, 0, num_steps + 1)

    @abstractmethod
    def get_generation_pipeline(self) -> Any:
        """The library's pipeline around the loaded transformer and VAE, without a text encoder."""

    @abstractmethod
    def generate_single_image(
        self, pipeline: Any, item: SampleItem, condition: SampleCondition, generator: torch.Generator
    ) -> Image.Image:
        """Draw one sample with what `get_generation_pipeline` returned.

        Args:
            pipeline, item: the pipeline, and the sample to draw.
            condition: the item's encoded prompts and loaded reference images.
            generator: CPU generator for the noise.
        """

    def generate_images(
        self,
        pipeline: Any,
        items: Sequence[SampleItem],
        condition: SampleCondition,
        generators: Sequence[torch.Generator],
    ) -> list[Image.Image]:
        """Draw samples that differ in prompt and seed only, in one batch if the model can.

        Args:
            pipeline, items: the pipeline, and the samples to draw.
            condition: the encoded prompts of all items; no reference images.
            generators: a CPU generator for the noise of each.
        """
        pairs = zip(items, generators, strict=True)
        return [self.generate_single_image(pipeline, item, condition, generator) for item, generator in pairs]
