"""The questions that every model answers, so that the rest of the trainer never asks which model it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from toolkit.cards import ModelCard, find_cards
from toolkit.config import ModelConfig, SampleItem
from toolkit.lora.parse import parse
from toolkit.lora.update import Place, Update, state_of, updates_of
from toolkit.memory.activation_offload import ActivationOffload, checkpointed
from toolkit.memory.host import give_back
from toolkit.memory.layer_offload import LayerOffload
from toolkit.memory.placement import Placement, block_names, choose_placement, share_for_free_memory
from toolkit.models.prompt_cut import PromptCut

Component = Literal["text_encoder", "vae", "transformer"]
StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class LoraTarget:
    """One update B @ A: its name in LoRA files, and the linear layers of the loaded model that it covers.

    Several modules mean that the released model fuses them into one matrix: they share A, and B is stacked in this
    order. Such an update has the same shape, and the same meaning, in every program that reads the released model.
    """

    name: str
    modules: tuple[str, ...]


class BaseModel:
    """A model that can be trained. Components are loaded one by one, when a stage of the plan needs them.

    A subclass sets `arch` and answers the methods that raise NotImplementedError. Attributes `text_encoder`,
    `tokenizer`, `vae` and `transformer` are None until loaded.
    """

    arch: ClassVar[str]
    is_flow_matching: bool = True
    is_transformer: bool = True
    max_text_tokens: ClassVar[int] = 512

    def __init__(self, model_config: ModelConfig, *, device: torch.device, dtype: torch.dtype) -> None:
        self.model_config = model_config
        self.device = device
        self.dtype = dtype
        self.transformer_dtype = dtype  # fp32 where the whole transformer is trained
        # Classes of the model libraries, each None until it is loaded.
        self.text_encoder: Any = None
        self.tokenizer: Any = None
        self.vae: Any = None
        self.transformer: Any = None
        # What `auto` means for a component; without a memory plan, that all of it streams.
        self.resolve_auto_offload: Callable[[Component], float] = lambda component: 1.0
        self._placements: dict[Component, Placement] = {}
        self._offloads: dict[Component, LayerOffload] = {}

    @property
    def card(self) -> ModelCard:
        """What this arch says of itself."""
        return find_cards()[self.arch]

    @property
    def is_flux2(self) -> bool:
        """True for every FLUX.2 arch. Derived, never set; kept for users' scripts, ours ask for the capability."""
        return self.card.family == "flux2"

    # Loading

    def load_model(self) -> None:
        """Load every component. The trainer loads them one by one instead."""
        for component in ("text_encoder", "vae", "transformer"):
            self.load(component)

    def check_files(self) -> None:
        """Look at what can be seen of the model's files without reading weights or asking the network.

        Raises:
            UserError: local files are absent, damaged or of another model.
        """

    def load(self, component: Component) -> None:
        """Load one component to the model's device, in eval mode and frozen; nothing happens if it is there.

        Raises:
            UserError: the weights are missing, damaged or of another model.
        """
        raise NotImplementedError

    def free(self, component: Component) -> None:
        """Forget a component; its memory is free when the caller holds no reference of its own."""
        if component in self._offloads:
            self._offloads.pop(component).detach()  # no name for it here, which would keep its buffers
        setattr(self, component, None)
        if component == "text_encoder":
            self.tokenizer = None
        give_back()

    def fingerprint(self, component: Component) -> str:
        """Hex digest that changes when the component's weights or its way of working change: part of cache keys."""
        raise NotImplementedError

    # Offloading

    def list_blocks(self, module: nn.Module) -> list[str]:
        """Dotted names of a component's blocks in the order of its forward pass; only whole blocks are offloaded."""
        return block_names(module)

    def place(
        self, component: Component, module: nn.Module, *, bits_per_weight: float = 16
    ) -> Callable[[str], torch.device]:
        """Decide which blocks of a component will stream from the host, before it is loaded.

        With `low_vram` a text encoder streams as much as it must to fit, also where the job asks for no offloading.

        Args:
            component: which.
            module: it, on the meta device.
            bits_per_weight: of its blocks, once they are loaded; for text encoders.

        Returns:
            From the name of a tensor to the device that it is to be loaded to.
        """
        config, blocks = self.model_config, self.list_blocks(module)
        percent: float | Literal["auto"] = 0.0
        if config.layer_offloading and component == "transformer":
            percent = config.layer_offloading_transformer_percent
        elif config.layer_offloading and component == "text_encoder":
            percent = config.layer_offloading_text_encoder_percent
        elif config.low_vram and component == "text_encoder":
            percent = share_for_free_memory(module, blocks, bits_per_weight=bits_per_weight, device=self.device)
        share = self.resolve_auto_offload(component) if percent == "auto" else percent
        self._placements[component] = choose_placement(module, blocks, share=share, device=self.device)
        return self._placements[component].device_of

    def start_offloading(self, component: Component) -> None:
        """Stream the blocks that `place` chose; the component has been loaded, and nothing is added to it yet."""
        placement = self._placements.pop(component, None)
        if placement is not None and placement.streamed:
            self._offloads[component] = placement.offload(getattr(self, component))

    def describe_offloading(self, component: Component) -> str | None:
        """One line on what streams; None if nothing does."""
        offload = self._offloads.get(component)
        return None if offload is None else offload.describe()

    def checkpoint_function(self) -> Callable[..., Any]:
        """What runs a block under gradient checkpointing: a function of the block and its arguments."""
        for offload in self._offloads.values():
            offload.is_recomputed = True
        return ActivationOffload(self.device) if self.model_config.activation_offloading else checkpointed

    # Text and images

    def get_prompt_embeds(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts. Needs the text encoder.

        Returns:
            [B, L, D] in the model's dtype on its device, padded to the length used at inference.
        """
        raise NotImplementedError

    def cut_prompt(self, prompt: str) -> PromptCut | None:
        """Where a prompt that is too long is cut; None where all of it is read. Loads no weights."""
        return None

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Clean, normalised latents [B, C, h, w] of pixels [B, 3, H, W] in -1..1. Needs the VAE."""
        raise NotImplementedError

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in -1..1 of normalised latents [B, C, h, w]. Needs the VAE."""
        raise NotImplementedError

    # Training

    def get_noise_prediction(
        self,
        noisy_latents: Tensor,
        timestep: Tensor,
        prompt_embeds: Tensor,
        *,
        guidance: float = 1.0,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """The model's velocity. Needs the transformer.

        Args:
            noisy_latents: [B, C, h, w].
            timestep: [B], fp32, 0..1000.
            prompt_embeds: [B, L, D].
            guidance: value of the guidance embedding, for models that have one.
            references: clean latents of the first, second, ... reference image of each sample, each [B, C, h_i, w_i];
                none for models without the capability `references`.

        Returns:
            Velocity `noise - latents`, [B, C, h, w].
        """
        raise NotImplementedError

    def get_loss_target(self, latents: Tensor, noise: Tensor) -> Tensor:
        """What the prediction is compared with: the velocity of the straight path (arXiv 2209.03003)."""
        return noise - latents

    def get_bucket_divisibility(self) -> int:
        """Image sides are multiples of this many pixels."""
        return self.card.divisor_px

    def num_tokens(self, width: int, height: int) -> int:
        """Length of the sequence that a picture of this size becomes; timestep shifts depend on it."""
        return (width // self.get_bucket_divisibility()) * (height // self.get_bucket_divisibility())

    def get_model_has_grad(self) -> bool:
        """Whether anything in the transformer is being trained."""
        return self.transformer is not None and any(p.requires_grad for p in self.transformer.parameters())

    def get_te_has_grad(self) -> bool:
        """Whether anything in the text encoder is being trained."""
        return self.text_encoder is not None and any(p.requires_grad for p in self.text_encoder.parameters())

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each block in backward instead of keeping its activations."""
        raise NotImplementedError

    # LoRA

    def get_transformer_block_names(self) -> list[str]:
        """Names of the lists of blocks, as LoRA files spell them; LoRA is put on linear layers inside these."""
        raise NotImplementedError

    def get_lora_targets(self) -> list[LoraTarget]:
        """Every linear layer that may carry LoRA, in model order."""
        raise NotImplementedError

    @classmethod
    def locate_layer(cls, name: str) -> Place | None:
        """Where a layer belongs in the released model by any of its names, dotted or all underscores; None: nowhere."""
        raise NotImplementedError

    @classmethod
    def write_lora(cls, updates: Mapping[str, Update], file_format: str) -> StateDict:
        """The tensors of a LoRA file.

        Args:
            updates: by `LoraTarget.name`.
            file_format: one of `save.lora_format`.

        Raises:
            UserError: the format cannot carry one of the layers.
        """
        raise NotImplementedError

    def convert_lora_weights_before_save(self, state_dict: StateDict, file_format: str = "bfl") -> StateDict:
        """From `<LoraTarget.name>.lora_A/B.weight` to the keys of the file."""
        return self.write_lora(updates_of(state_dict), file_format)

    def convert_lora_weights_before_load(
        self, state_dict: StateDict, metadata: Mapping[str, str] | None = None
    ) -> StateDict:
        """From the keys of a file, in any format, to `<LoraTarget.name>.lora_A/B.weight` in fp32, alpha folded in.

        Raises:
            UserError: keys that this model does not know.
        """
        return state_of(parse(state_dict, metadata or {}, self.locate_layer))

    # Saving the whole model

    def model_state_to_save(self) -> StateDict:
        """The transformer's weights under the names of the released single file."""
        raise NotImplementedError

    def get_base_model_version(self) -> str:
        """Value of `ss_base_model_version` in the metadata of saved files."""
        return self.arch

    # Sampling

    def get_generation_pipeline(self) -> Any:
        """The library's pipeline around the loaded transformer and VAE, without text encoder."""
        raise NotImplementedError

    def generate_single_image(
        self,
        pipeline: Any,
        item: SampleItem,
        embeds: Mapping[str, Tensor],
        generator: torch.Generator,
        *,
        references: Sequence[Image.Image] = (),
    ) -> Image.Image:
        """Draw one sample.

        Args:
            pipeline: from `get_generation_pipeline`.
            item: what to draw.
            embeds: prompt -> [L, D]; holds the item's prompt and what `prompts_of` names.
            generator: source of the noise, on the CPU.
            references: its reference images, RGB, at the sizes that the model sees.
        """
        raise NotImplementedError

    def prompts_of(self, item: SampleItem) -> tuple[str, ...]:
        """The texts that must be encoded to draw this sample."""
        raise NotImplementedError
