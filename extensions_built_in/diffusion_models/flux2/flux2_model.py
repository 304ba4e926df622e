"""FLUX.2 as a model of the trainer: dev, klein 4B and 9B, and the tiny one of the demo."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from PIL import Image
from torch import Tensor

from extensions_built_in.diffusion_models.flux2 import (
    latents,
    lora_formats,
    lora_keys,
    prompt_template,
    sources,
    text_encoder,
    weights,
)
from extensions_built_in.diffusion_models.flux2.loading import transformer_recipe, vae_recipe
from extensions_built_in.diffusion_models.flux2.text_weights import load_text_encoder
from extensions_built_in.diffusion_models.flux2.tokenizer import has_tokenizer, load_tokenizer
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from extensions_built_in.diffusion_models.flux2.vae_identity import encoder_fingerprint
from toolkit.config import SampleItem
from toolkit.config.model import ModelPaths
from toolkit.errors import UserError
from toolkit.files import sha256_json
from toolkit.lora.update import Place, Update
from toolkit.memory.quantize import quantize_linears
from toolkit.models.base_model import BaseModel, Component, LoraTarget, StateDict
from toolkit.models.prompt_cut import PromptCut
from toolkit.weights.dtypes import DTYPES
from toolkit.weights.fingerprint import fingerprint
from toolkit.weights.layouts import ComponentFiles

# Came with every released model; single files have none beside them.
SCHEDULER = {
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


class Flux2Model(BaseModel):
    """FLUX.2 dev: guidance embedding, Mistral 3 text encoder."""

    arch: ClassVar[str] = "flux2"
    text_encoder_kind: ClassVar[str] = "mistral"
    padding_side: ClassVar[Literal["left", "right"]] = "left"
    encode_text: ClassVar[Callable[..., Tensor]] = staticmethod(text_encoder.encode_dev)
    render_prompt: ClassVar[Callable[..., str]] = staticmethod(prompt_template.render_dev)
    text_layers: ClassVar[tuple[int, ...]] = (10, 20, 30)
    max_text_tokens: ClassVar[int] = 512
    target_lora_modules: ClassVar[list[str]] = ["Flux2Transformer2DModel"]

    # Loading

    def check_files(self) -> None:
        """See BaseModel.check_files: reads the headers of local files; what is on the hub is checked when it comes."""
        transformer = sources.find_local(self.model_config, self.card, "transformer")
        if transformer is not None:
            transformer_recipe(transformer, arch=self.arch)
        vae = sources.find_local(self.model_config, self.card, "vae")
        if vae is not None:
            vae_recipe(vae)

    def load(self, component: Component) -> None:
        """See BaseModel.load; `sources` says which layouts are read."""
        if getattr(self, component) is not None:
            return
        if component == "text_encoder":
            self._load_tokenizer()
            files = self.files("text_encoder")
            module = load_text_encoder(
                self._folder_of(files, "text encoder"),
                files.weights,
                self.text_encoder_kind,
                num_layers=max(self.text_layers),
                hidden_size=self._text_width,
                dtype=self.te_dtype,
                device=self.device,
                qtype=self._te_qtype,
                place=partial(self.place, "text_encoder"),
            )
        elif component == "vae":
            module = vae_recipe(self.files("vae")).load(dtype=self.vae_dtype, device=self.device)
            module.enable_slicing()  # a batch costs the memory of one picture
        else:
            recipe = transformer_recipe(self.files("transformer"), arch=self.arch)
            module = recipe.load(
                dtype=self.transformer_dtype,
                device=self.device,
                device_of=self.place("transformer", recipe.module),
                placed=self._quantizer(recipe.module),
            )
        setattr(self, component, module)
        self.start_offloading(component)

    def files(self, component: str) -> ComponentFiles:
        """Files of a component; downloads them if they are on the hub."""
        files = sources.find(self.model_config, self.card, component)
        if component == "tokenizer" and not has_tokenizer(files.folder):
            # An encoder's own repository may lack one: that of Mistral Small 3.2 has it in Mistral's own format only.
            own = self.model_config.model_copy(update={"te_name_or_path": None, "model_paths": ModelPaths()})
            return sources.find(own, self.card, component)
        return files

    def _quantizer(self, transformer: Any) -> Callable[[str], None] | None:
        """Quantizes each linear layer of the blocks as soon as its weight is there."""
        if not self.model_config.quantize:
            return None
        layers = {f"{name}.weight": name for name in self._block_linears(transformer)}
        qtype = self.model_config.qtype

        def quantize(placed: str) -> None:
            if placed in layers:
                quantize_linears(transformer, qtype, names=[layers[placed]])

        return quantize

    def fingerprint(self, component: Component) -> str:
        """See BaseModel.fingerprint. The VAE's does not depend on the arch: models with one VAE share their latents."""
        files = self.files(component)
        if component == "vae":
            config = None if files.folder is None else files.folder / "config.json"
            return sha256_json({"encoder": encoder_fingerprint(files.weights, config), "dtype": str(self.vae_dtype)})
        facts: dict[str, Any] = {"weights": fingerprint(files)}
        if component == "text_encoder":
            facts |= {
                "dtype": str(self.te_dtype),
                "tokenizer": fingerprint(self.files("tokenizer")),
                "layers": self.text_layers,
                "max_tokens": self.max_text_tokens,
                "template": text_encoder.TEMPLATE_VERSION,
                "qtype": self._te_qtype,
            }
        return sha256_json(facts)

    @property
    def vae_dtype(self) -> torch.dtype:
        """`model.vae_dtype`; unset, fp32 on a CPU, where bf16 costs quality for little, else the model's dtype."""
        if self.model_config.vae_dtype is not None:
            return DTYPES[self.model_config.vae_dtype]
        return torch.float32 if self.device.type == "cpu" else self.dtype

    @property
    def te_dtype(self) -> torch.dtype:
        """`model.te_dtype`; unset, the model's dtype."""
        return self.dtype if self.model_config.te_dtype is None else DTYPES[self.model_config.te_dtype]

    # Text and images

    def get_prompt_embeds(self, prompts: Sequence[str]) -> Tensor:
        """See BaseModel.get_prompt_embeds: [B, 512, 3 * hidden size of the text encoder]."""
        return self.encode_text(
            self.text_encoder, self.tokenizer, prompts, layers=self.text_layers, max_tokens=self.max_text_tokens
        )

    def cut_prompt(self, prompt: str) -> PromptCut | None:
        """See BaseModel.cut_prompt."""
        self._load_tokenizer()
        rendered = self.render_prompt(self.tokenizer, prompt)
        return prompt_template.find_cut(self.tokenizer, prompt, rendered, max_tokens=self.max_text_tokens)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """See BaseModel.encode_images: [B, 128, H / 16, W / 16]."""
        return latents.encode(self.vae, pixels)

    def decode_latents(self, latents_: Tensor) -> Tensor:
        """See BaseModel.decode_latents."""
        return latents.decode(self.vae, latents_, limit=self._whole_px)

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
        """See BaseModel.get_noise_prediction."""
        return predict_velocity(
            self.transformer, noisy_latents, timestep / 1000, prompt_embeds, guidance=guidance, references=references
        )

    def enable_gradient_checkpointing(self) -> None:
        """See BaseModel.enable_gradient_checkpointing."""
        self.transformer.enable_gradient_checkpointing(self.checkpoint_function())

    # LoRA and saving

    def get_transformer_block_names(self) -> list[str]:
        """`double_blocks` and `single_blocks`."""
        return list(lora_keys.BLOCK_LISTS)

    def get_lora_targets(self) -> list[LoraTarget]:
        """See BaseModel.get_lora_targets."""
        return lora_keys.targets(self.transformer)

    @classmethod
    def locate_layer(cls, name: str) -> Place | None:
        """See BaseModel.locate_layer."""
        return lora_keys.place(name)

    @classmethod
    def write_lora(cls, updates: Mapping[str, Update], file_format: str) -> StateDict:
        """See BaseModel.write_lora."""
        return lora_formats.write(updates, file_format)

    def model_state_to_save(self) -> StateDict:
        """The transformer as the released single file names it, readable by ComfyUI."""
        return weights.to_single_file(self.transformer.state_dict())

    # Sampling

    def get_generation_pipeline(self) -> Any:
        """Flux2Pipeline around transformer and VAE, with the scheduler settings that came with the model."""
        return Flux2Pipeline(transformer=self.transformer, **self._pipeline_parts())

    def generate_single_image(
        self,
        pipeline: Any,
        item: SampleItem,
        embeds: Mapping[str, Tensor],
        generator: torch.Generator,
        *,
        references: Sequence[Image.Image] = (),
    ) -> Image.Image:
        """See BaseModel.generate_single_image. diffusers scales references down to 1024 x 1024 pixels."""
        arguments: dict[str, Any] = {"prompt_embeds": self._embeds_of(embeds, item.prompt)}
        if references:
            arguments["image"] = list(references)
        negative = self._negative_prompt(item)
        if negative is not None:
            arguments["negative_prompt_embeds"] = self._embeds_of(embeds, negative)
        with latents.tiled_above(self.vae, item.width * item.height, limit=self._whole_px):
            images = pipeline(
                height=item.height,
                width=item.width,
                num_inference_steps=item.sample_steps,
                guidance_scale=item.guidance_scale,
                generator=generator,
                **arguments,
            ).images
        return images[0]

    def prompts_of(self, item: SampleItem) -> tuple[str, ...]:
        """The prompt, and the negative prompt where the model uses one."""
        negative = self._negative_prompt(item)
        return (item.prompt,) if negative is None else (item.prompt, negative)

    def _negative_prompt(self, item: SampleItem) -> str | None:
        return None

    def _embeds_of(self, embeds: Mapping[str, Tensor], prompt: str) -> Tensor:
        return embeds[prompt].unsqueeze(0).to(self.device, self.dtype)

    def _pipeline_parts(self) -> dict[str, Any]:
        found = sources.find_scheduler(self.model_config, self.card)
        if found is None or found.folder is None:
            scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULER)
        else:
            scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(found.folder, local_files_only=True)
        return {"scheduler": scheduler, "vae": self.vae, "text_encoder": None, "tokenizer": None}

    def _block_linears(self, transformer: Flux2Transformer2DModel) -> list[str]:
        return [
            module
            for target in lora_keys.targets(transformer)
            if target.name.startswith(tuple(lora_keys.BLOCK_LISTS))
            for module in target.modules
        ]

    @property
    def _whole_px(self) -> int:
        return latents.WHOLE_LOW_VRAM_PX if self.model_config.low_vram else latents.WHOLE_PX

    @property
    def _text_width(self) -> int | None:
        """Width of the text encoder that the transformer was trained with; None where only its weights would tell."""
        width = None
        config = Path(self.model_config.name_or_path).expanduser() / "transformer" / "config.json"
        if self.model_config.name_or_path == self.card.source:
            width = self.card.prompt_embeds_shape[1]
        elif config.is_file():
            width = json.loads(config.read_text(encoding="utf-8")).get("joint_attention_dim")
        return width // len(self.text_layers) if width else None

    @property
    def _te_qtype(self) -> str | None:
        return self.model_config.qtype_te if self.model_config.quantize_te else None

    def _load_tokenizer(self) -> None:
        if self.tokenizer is None:
            folder = self._folder_of(self.files("tokenizer"), "tokenizer")
            self.tokenizer = load_tokenizer(folder, padding_side=self.padding_side)

    @staticmethod
    def _folder_of(files: ComponentFiles, what: str) -> Path:
        if files.folder is None:
            raise UserError(f"{files.place}: is a single file. A {what} is read from a folder with its config.json.")
        return files.folder


class Flux2Klein4BModel(Flux2Model):
    """FLUX.2 klein 4B: true CFG, Qwen3 text encoder."""

    arch: ClassVar[str] = "flux2_klein_4b"
    text_encoder_kind: ClassVar[str] = "qwen3"
    padding_side: ClassVar[Literal["left", "right"]] = "right"
    encode_text: ClassVar[Callable[..., Tensor]] = staticmethod(text_encoder.encode_klein)
    render_prompt: ClassVar[Callable[..., str]] = staticmethod(prompt_template.render_klein)
    text_layers: ClassVar[tuple[int, ...]] = (9, 18, 27)

    def get_generation_pipeline(self) -> Any:
        """Flux2KleinPipeline around transformer and VAE, with the scheduler settings that came with the model."""
        return Flux2KleinPipeline(transformer=self.transformer, is_distilled=False, **self._pipeline_parts())

    def _negative_prompt(self, item: SampleItem) -> str | None:
        return item.neg if item.guidance_scale > 1 else None


class Flux2Klein9BModel(Flux2Klein4BModel):
    """FLUX.2 klein 9B: as 4B, wider."""

    arch: ClassVar[str] = "flux2_klein_9b"


class Flux2TinyModel(Flux2Klein4BModel):
    """The tiny klein of the demo and the tests; its prompts are short."""

    arch: ClassVar[str] = "flux2_tiny"
    max_text_tokens: ClassVar[int] = 48
