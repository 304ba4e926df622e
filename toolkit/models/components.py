"""A model as components that are loaded one by one, placed in memory as the job asks, and freed again."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import nn

from toolkit.cards import ModelCard, find_cards
from toolkit.compute.attention import use_attention
from toolkit.compute.attention_choices import NATIVE
from toolkit.config import ModelConfig
from toolkit.dtypes import torch_dtype
from toolkit.memory.component_loader import ComponentLoader
from toolkit.memory.host import release_memory
from toolkit.memory.placement import Planned, block_names
from toolkit.models.known_names import KnownNames
from toolkit.models.options import ModelOptions
from toolkit.models.pixel_vae import PixelVae
from toolkit.weights.recipe import Loadable

Component = Literal["text_encoder", "vae", "transformer"]


class ComponentModel(KnownNames):
    """The part of `BaseModel` that loads and frees. `text_encoder` and so on are None until loaded.

    Attributes:
        components: folders of the published repository from which the model is loaded.
        attention_kernel: name of the attention kernel that the transformer uses.
    """

    arch: ClassVar[str]
    components: ClassVar[tuple[str, ...]] = ("transformer", "vae", "text_encoder", "tokenizer")

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
        self.options = options
        self.layout = options.layout
        self.loader = ComponentLoader(
            model_config,
            device,
            notify=options.notify,
            count=options.count,
            planned=Planned(options.offload_shares, options.split),
            layout=options.layout,
        )
        self.text_encoder: Any = None  # the classes of these four come from the model libraries
        self.tokenizer: Any = None
        self.vae: Any = None
        self.transformer: Any = None
        self.attention_kernel = NATIVE

    def beside(self, section: ModelConfig) -> Self:
        """A model of the same class for another `model` section, for drawing on its transformer. Nothing is loaded."""
        without = frozenset(self.components) - {"transformer"}
        options = replace(self.options, embeds_text=False, without=without)
        return type(self)(section, device=self.device, dtype=self.dtype, options=options)

    def use_pixel_vae(self, cell_px: int = 8) -> None:
        """Encode and decode without loss: latents are then the pixels themselves, and no weights of a VAE are loaded.

        Args:
            cell_px: side of the squares of pixels that become the channels of one latent, a power of two.
        """
        self.vae = PixelVae(self.device, cell_px=cell_px)

    def share_vae(self, other: ComponentModel) -> None:
        """Use the VAE that another model has loaded, instead of loading it a second time."""
        self.vae = other.vae

    def use_attention_kernel(self, name: str) -> None:
        """Let every attention layer of the loaded transformer use a kernel, in training and in samples.

        Args:
            name: one of `attention_choices`.
        """
        use_attention(self.transformer, name)
        self.attention_kernel = name

    @property
    def card(self) -> ModelCard:
        """The card of this arch, as the run trains it."""
        return self.options.card or find_cards()[self.arch]

    def check_files(self) -> None:
        """Check the model's files as far as possible without reading weights or going online.

        Raises:
            UserError: local files are missing, damaged or belong to another model.
        """

    def check_access(self) -> None:
        """Ask the hub whether everything the job will download is accessible, before hours are spent on other stages.

        Raises:
            UserError: a file is missing, gated or unreachable on the hub and not in the local cache.
        """

    def count_local_weights(self) -> int | None:
        """Number of transformer weights, from the headers of local files; None if the files are only on the hub."""
        return None

    def count_assistant_weights(self) -> int | None:
        """Number of weights in the frozen LoRA applied while training: 0 without one, None if its file is not local."""
        return 0

    @abstractmethod
    def load(self, component: Component) -> None:
        """Load one component onto the model's device, frozen and in eval mode. Does nothing if it is already loaded.

        Raises:
            UserError: the weights are missing, damaged or belong to another model.
        """

    @abstractmethod
    def get_quantizable_layers(self, component: Component, module: nn.Module) -> list[str]:
        """Names of the linear layers that `quantize` and `quantize_te` store in few bits.

        Embedders, norms, modulation and the last layer keep their precision: errors in them affect the whole output.

        Args:
            component: `transformer` or `text_encoder`.
            module: the component; may be on the meta device.
        """

    def list_blocks(self, module: nn.Module) -> list[str]:
        """Dotted names of a component's blocks, in forward order; only whole blocks are offloaded."""
        return block_names(module)

    def load_recipe(self, component: Component, recipe: Loadable, *, dtype: torch.dtype) -> Any:
        """The recipe's module with its weights, frozen and placed in memory as the job asks. For use in `load`.

        Args:
            component: name of the component.
            recipe: the module and where its weights are; its files are not read if the cache has quantized weights.
            dtype: number format of everything that is not quantized.

        Raises:
            UserError: the files are damaged or cannot be quantized.
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
        """Unload a component; its memory is freed once the caller holds no reference to it either."""
        self.loader.free(component)
        setattr(self, component, None)
        if component == "text_encoder":
            self.tokenizer = None
        release_memory()

    @abstractmethod
    def fingerprint(self, component: Component) -> str:
        """Hex digest that changes whenever the component's weights or its computation change; part of cache keys."""

    @property
    def vae_dtype(self) -> torch.dtype:
        """`model.vae_dtype`; if unset, the model's dtype (on a CPU fp32: bf16 saves little there and costs quality)."""
        if self.model_config.vae_dtype is not None:
            return torch_dtype(self.model_config.vae_dtype)
        return torch.float32 if self.device.type == "cpu" else self.dtype

    @property
    def te_dtype(self) -> torch.dtype:
        """`model.te_dtype`; if unset, the model's dtype."""
        return self.dtype if self.model_config.te_dtype is None else torch_dtype(self.model_config.te_dtype)
