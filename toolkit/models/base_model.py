"""The questions that every model answers, so that the rest of the trainer never asks which model it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from toolkit.cards import ModelCard, find_cards
from toolkit.config import ModelConfig, SampleItem
from toolkit.dtypes import torch_dtype
from toolkit.lora.parse import parse
from toolkit.lora.update import Location, LoraTarget, SizedTarget, Update, state_of, updates_of
from toolkit.memory.component_loader import ComponentLoader
from toolkit.memory.host import release_memory
from toolkit.memory.placement import block_names
from toolkit.models.condition import Condition, SampleCondition
from toolkit.models.contract import check_answers
from toolkit.models.options import ModelOptions
from toolkit.models.prompt_cut import PromptCut
from toolkit.weights.recipe import Loadable

__all__ = ["BaseModel", "Component", "LoraTarget", "SizedTarget", "StateDict"]

Component = Literal["text_encoder", "vae", "transformer"]
StateDict = dict[str, Tensor]


class BaseModel:
    """A model that can be trained. Components are loaded one by one, when a stage of the plan needs them.

    A subclass sets `arch` and answers what is marked abstract; what it forgot is said when the class is made. One whose
    subclasses are the models is made with `is_abstract=True`. Attributes `text_encoder`, `tokenizer`, `vae` and
    `transformer` are None until loaded.
    """

    arch: ClassVar[str]
    base_model_version: ClassVar[str | None] = None  # where headers of other programs' files do not say the arch
    max_text_tokens: ClassVar[int] = 512

    def __init_subclass__(cls, *, is_abstract: bool = False) -> None:
        if not is_abstract:
            check_answers(cls)

    def __init__(
        self,
        model_config: ModelConfig,
        *,
        device: torch.device,
        dtype: torch.dtype,
        options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    ) -> None:
        self.model_config = model_config
        self.device = device
        self.dtype = dtype
        self.transformer_dtype = dtype if options.transformer_dtype is None else options.transformer_dtype
        self.loader = ComponentLoader(
            model_config,
            device,
            notify=options.notify,
            count=options.count,
            offload_shares=options.offload_shares,
        )
        self.text_encoder: Any = None  # these four are of the model libraries' classes
        self.tokenizer: Any = None
        self.vae: Any = None
        self.transformer: Any = None

    @property
    def card(self) -> ModelCard:
        """What this arch says of itself."""
        return find_cards()[self.arch]

    # Loading

    def check_files(self) -> None:
        """Look at what can be seen of the model's files without reading weights or asking the network.

        Raises:
            UserError: local files are absent, damaged or of another model.
        """

    def check_access(self) -> None:
        """Ask the hub whether all that will be downloaded may be, before hours go into something else.

        Raises:
            UserError: something is absent, gated or out of reach, and not in the local cache.
        """

    def count_local_weights(self) -> int | None:
        """Weights of the transformer in files that are here, by their headers; None if they are on the hub."""
        return None

    def count_assistant_weights(self) -> int | None:
        """Weights of the frozen LoRA that is at work in training, 0 if the job has none; None if it is not here."""
        return 0

    @abstractmethod
    def load(self, component: Component) -> None:
        """Load one component to the model's device, in eval mode and frozen; nothing happens if it is there.

        Raises:
            UserError: the weights are missing, damaged or of another model.
        """

    @abstractmethod
    def get_quantizable_layers(self, component: Component, module: nn.Module) -> list[str]:
        """Names of the linear layers that `quantize` and `quantize_te` hold in few bits.

        Embedders, norms, modulation and the last layer keep their precision: errors in them reach everything.

        Args:
            component: `transformer` or `text_encoder`.
            module: the component; may be on the meta device.
        """

    def list_blocks(self, module: nn.Module) -> list[str]:
        """Dotted names of a component's blocks in the order of its forward pass; only whole blocks are offloaded."""
        return block_names(module)

    def load_recipe(self, component: Component, recipe: Loadable, *, dtype: torch.dtype) -> Any:
        """The module of a recipe with its weights, frozen, held in memory as the job says. `load` goes through it.

        Args:
            component: its name.
            recipe: where its weights are; not read where quantized weights are in the cache.
            dtype: of what is not quantized.

        Raises:
            UserError: the files are damaged, or cannot be quantized.
        """
        return self.loader.load(
            component,
            recipe,
            dtype=dtype,
            blocks=self.list_blocks(recipe.module),
            layers=lambda: self.get_quantizable_layers(component, recipe.module),
            identify=lambda: self.fingerprint(component),
            label=f"{self.arch}-{component}",
        )

    def free(self, component: Component) -> None:
        """Forget a component; its memory is free when the caller holds no reference of its own."""
        self.loader.free(component)
        setattr(self, component, None)
        if component == "text_encoder":
            self.tokenizer = None
        release_memory()

    @abstractmethod
    def fingerprint(self, component: Component) -> str:
        """Hex digest that changes when the component's weights or its way of working change: part of cache keys."""

    @property
    def vae_dtype(self) -> torch.dtype:
        """`model.vae_dtype`; unset, fp32 on a CPU, where bf16 costs quality for little, else the model's dtype."""
        if self.model_config.vae_dtype is not None:
            return torch_dtype(self.model_config.vae_dtype)
        return torch.float32 if self.device.type == "cpu" else self.dtype

    @property
    def te_dtype(self) -> torch.dtype:
        """`model.te_dtype`; unset, the model's dtype."""
        return self.dtype if self.model_config.te_dtype is None else torch_dtype(self.model_config.te_dtype)

    # Text and images

    @abstractmethod
    def get_prompt_embeds(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts. Needs the text encoder.

        Returns:
            [B, L, D] in the model's dtype on its device, padded to the length used at inference; only the model itself
            reads them.
        """

    def cut_prompt(self, prompt: str) -> PromptCut | None:
        """Where a prompt that is too long is cut; None where all of it is read. Loads no weights."""
        return None

    @abstractmethod
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Clean, normalised latents [B, C, h, w] of pixels [B, 3, H, W] in -1..1. Needs the VAE."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in -1..1 of normalised latents [B, C, h, w]. Needs the VAE."""

    # Training

    @abstractmethod
    def get_noise_prediction(self, noisy_latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """The model's velocity. Needs the transformer.

        Args:
            noisy_latents: [B, C, h, w].
            timestep: [B], fp32, 0..1000.
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
        """Length of the sequence that a picture of this size becomes; timestep shifts depend on it."""
        return (width // self.get_bucket_divisibility()) * (height // self.get_bucket_divisibility())

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each block in backward instead of keeping its activations. For transformers of diffusers' kind."""
        self.transformer.enable_gradient_checkpointing(self.loader.checkpoint_function())

    # LoRA

    @abstractmethod
    def get_transformer_block_names(self) -> list[str]:
        """Names of the lists of blocks, as LoRA files spell them; LoRA is put on linear layers inside these."""

    @abstractmethod
    def get_lora_targets(self) -> list[LoraTarget]:
        """Every linear layer that may carry LoRA, in model order."""

    def plan_lora_targets(self) -> list[SizedTarget]:
        """What `get_lora_targets` will give when the job's transformer is loaded; none: it cannot be told."""
        return []

    @classmethod
    @abstractmethod
    def locate_layer(cls, name: str) -> Location | None:
        """Where a layer belongs by any of its names, dotted or all underscores; None: nowhere.

        A name in `LoraTarget.modules` is always a `LayerLocation`; only files of other programs fuse several targets.
        """

    @classmethod
    @abstractmethod
    def write_lora(cls, updates: Mapping[str, Update], file_format: str) -> StateDict:
        """The tensors of a LoRA file.

        Args:
            updates: by `LoraTarget.name`.
            file_format: one of `save.lora_format`.

        Raises:
            UserError: the format cannot carry one of the layers.
        """

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

    @abstractmethod
    def model_state_to_save(self) -> StateDict:
        """The transformer's weights under the names of the released single file."""

    def get_base_model_version(self) -> str:
        """Value of `ss_base_model_version` in the metadata of saved files."""
        return self.base_model_version or self.arch

    # Sampling

    @abstractmethod
    def get_generation_pipeline(self) -> Any:
        """The library's pipeline around the loaded transformer and VAE, without text encoder."""

    @abstractmethod
    def generate_single_image(
        self, pipeline: Any, item: SampleItem, condition: SampleCondition, generator: torch.Generator
    ) -> Image.Image:
        """Draw one sample.

        Args:
            pipeline: from `get_generation_pipeline`.
            item: what to draw.
            condition: the item's prompts and images, encoded or loaded.
            generator: source of the noise, on the CPU.
        """

    @abstractmethod
    def prompts_of(self, item: SampleItem) -> tuple[str, ...]:
        """The texts that must be encoded to draw this sample."""

    # Names that scripts and extensions for ai-toolkit know. The trainer itself asks the questions above.

    is_flow_matching: bool = True
    is_transformer: bool = True
    target_lora_modules: ClassVar[list[str]] = []

    @property
    def is_flux2(self) -> bool:
        """True for every FLUX.2 arch. Derived, never set; ours ask for the capability."""
        return self.card.family == "flux2"

    @property
    def is_flux(self) -> bool:
        """The same for every FLUX.1 arch."""
        return self.card.family == "flux"

    def load_model(self) -> None:
        """Load every component."""
        for component in ("text_encoder", "vae", "transformer"):
            self.load(component)

    def get_model_has_grad(self) -> bool:
        """Whether anything in the transformer is being trained."""
        return self.transformer is not None and any(p.requires_grad for p in self.transformer.parameters())

    def get_te_has_grad(self) -> bool:
        """Whether anything in the text encoder is being trained."""
        return self.text_encoder is not None and any(p.requires_grad for p in self.text_encoder.parameters())
