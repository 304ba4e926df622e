"""The FLUX.2 models: dev, klein 4B and 9B, and the tiny model of the demo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from diffusers import Flux2KleinPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from PIL import Image
from torch import Tensor, nn

from extensions_built_in.diffusion_models.flux2 import (
    latents,
    loading,
    lora_names,
    prompt_encoding,
    released_files,
    sampling,
    sites,
)
from extensions_built_in.diffusion_models.flux2.text_encoder import text_recipe
from extensions_built_in.diffusion_models.flux2.transformer import own_backward, pass_through, predict_velocity
from toolkit.config import SampleItem
from toolkit.files import sha256_json
from toolkit.lora.update import LayerLocation, SizedTarget, Update
from toolkit.model_size import TransformerSize
from toolkit.models.base_model import AttentionSite, Component, Ends, LoraTarget, OwnBackward, PromptCut, StateDict
from toolkit.models.condition import Condition, SampleCondition
from toolkit.stable_diffusion_model import StableDiffusion
from toolkit.weights.fingerprint import fingerprint
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.recipe import Recipe


class Flux2Model(StableDiffusion):
    """FLUX.2 dev, with guidance embedding and a Mistral 3 text encoder."""

    arch: ClassVar[str] = "flux2"
    text_encoder_kind: ClassVar[str] = "mistral"
    padding_side: ClassVar[Literal["left", "right"]] = "left"
    render_prompt: ClassVar[Callable[..., str]] = staticmethod(prompt_encoding.render_dev)
    text_layers: ClassVar[tuple[int, ...]] = (10, 20, 30)
    max_text_tokens: ClassVar[int] = 512
    target_lora_modules: ClassVar[list[str]] = ["Flux2Transformer2DModel"]

    # Loading

    @classmethod
    def single_files(cls, component: str) -> tuple[str, ...]:
        """See PublishedModel.single_files."""
        return released_files.single_files(cls.arch, component)

    def file_checks(self) -> Mapping[str, Callable[[ComponentFiles], object]]:
        """See PublishedModel.file_checks."""
        return {
            "transformer": lambda files: loading.transformer_recipe(files, arch=self.arch),
            "vae": loading.vae_recipe,
            "text_encoder": self._text_recipe,
            "tokenizer": lambda files: self._load_tokenizer(),
        }

    def load(self, component: Component) -> None:
        """See BaseModel.load; `sources` documents the supported layouts."""
        if getattr(self, component) is not None:
            return
        if component == "text_encoder":
            self._load_tokenizer()
            recipe = self._text_recipe(self.sources.find("text_encoder"))
            module = self.load_recipe(component, recipe, dtype=self.te_dtype)
        elif component == "vae":
            module = self.load_recipe(component, loading.vae_recipe(self.sources.find("vae")), dtype=self.vae_dtype)
            module.enable_slicing()  # a batch takes the memory of one image
        else:
            recipe = loading.transformer_recipe(self.sources.find("transformer"), arch=self.arch)
            module = self.load_recipe(component, recipe, dtype=self.transformer_dtype)
            if self.options.embeds_text:
                pass_through(module.get_submodule(loading.TEXT_LAYER))
        setattr(self, component, module)
        if component == "transformer":
            self.load_assistant_lora()

    def _text_recipe(self, files: ComponentFiles) -> Recipe:
        return text_recipe(
            files, self.text_encoder_kind, num_layers=max(self.text_layers), hidden_size=self._text_width
        )

    def fingerprint(self, component: Component) -> str:
        """See BaseModel.fingerprint. Models with the same VAE share cached latents, whatever their arch."""
        files = self.sources.find(component)
        if component == "vae":
            return latents.fingerprint(files, dtype=self.vae_dtype)
        facts: dict[str, Any] = {"weights": fingerprint(files)}
        if component == "text_encoder":
            facts |= {
                "dtype": str(self.te_dtype),
                "tokenizer": fingerprint(self.sources.find("tokenizer")),
                "layers": self.text_layers,
                "max_tokens": self.max_text_tokens,
                "template": prompt_encoding.TEMPLATE_VERSION,
                "qtype": self.loader.qtype(component),
            }
        return sha256_json(facts)

    # Text and images

    def get_prompt_embeds(self, prompts: Sequence[str]) -> Tensor:
        """See BaseModel.get_prompt_embeds. Embeddings are [B, 512, 3 * hidden size of the text encoder]."""
        return prompt_encoding.encode(
            self.text_encoder_kind,
            self.text_encoder,
            self.tokenizer,
            prompts,
            layers=self.text_layers,
            max_tokens=self.max_text_tokens,
        )

    def load_text_layer(self) -> nn.Module:
        """See BaseModel.load_text_layer."""
        recipe = loading.text_layer_recipe(self.sources.find("transformer"), arch=self.arch)
        return recipe.load(dtype=self.transformer_dtype, device=self.device)

    def cut_prompt(self, prompt: str) -> PromptCut | None:
        """See BaseModel.cut_prompt."""
        self._load_tokenizer()
        rendered = self.render_prompt(self.tokenizer, prompt)
        return prompt_encoding.find_cut(self.tokenizer, prompt, rendered, max_tokens=self.max_text_tokens)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """See BaseModel.encode_images. Latents are [B, 128, H / 16, W / 16]."""
        return latents.encode(self.vae, pixels)

    def decode_latents(self, latents_: Tensor) -> Tensor:
        """See BaseModel.decode_latents."""
        return latents.decode(self.vae, latents_, limit=self._whole_px)

    # Training

    def get_noise_prediction(self, noisy_latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """See BaseModel.get_noise_prediction."""
        return predict_velocity(
            self.transformer,
            noisy_latents,
            timestep / 1000,
            condition.prompt_embeds,
            guidance=condition.guidance,
            references=condition.references,
        )

    def own_backward(self) -> OwnBackward:
        """See BaseModel.own_backward."""
        return own_backward(self.transformer)

    # Adapters

    def get_attention_sites(self) -> list[AttentionSite]:
        """See BaseModel.get_attention_sites."""
        return sites.attention_sites(self.transformer)

    def get_ends(self) -> Ends:
        """See BaseModel.get_ends."""
        return sites.ends(self.transformer)

    # LoRA and saving

    def get_transformer_block_names(self) -> list[str]:
        """`double_blocks` and `single_blocks`."""
        return list(lora_names.BLOCK_LISTS)

    def get_lora_targets(self) -> list[LoraTarget]:
        """See BaseModel.get_lora_targets."""
        return [*lora_names.targets(self.transformer), lora_names.OPTIONAL]

    @classmethod
    def list_lora_targets(cls, size: TransformerSize) -> list[SizedTarget]:
        """See PublishedModel.list_lora_targets."""
        return lora_names.targets_of_size(size)

    def plan_lora_targets(self) -> list[SizedTarget]:
        """See BaseModel.plan_lora_targets. From the headers of local files, else from the card."""
        module = self.plan_transformer()
        if module is None:
            return super().plan_lora_targets()
        return [SizedTarget.of(target, module) for target in (*lora_names.targets(module), lora_names.OPTIONAL)]

    def plan_transformer(self) -> Any:
        """See BaseModel.plan_transformer."""
        files = self.sources.find_local("transformer")
        return None if files is None else loading.transformer_recipe(files, arch=self.arch).module

    @classmethod
    def locate_layer(cls, name: str) -> LayerLocation | None:
        """See BaseModel.locate_layer."""
        return lora_names.locate(name)

    @classmethod
    def write_lora(cls, updates: Mapping[str, Update], file_format: str) -> StateDict:
        """See BaseModel.write_lora."""
        return lora_names.write(updates, file_format)

    def model_state_to_save(self) -> StateDict:
        """The transformer's weights under the names of the released single file, which ComfyUI reads."""
        return self.name_as_released(self.layout.deferred(self.transformer.state_dict()))

    def name_as_released(self, weights: StateDict) -> StateDict:
        """See BaseModel.name_as_released."""
        return released_files.to_single_file(weights)

    # Sampling

    def get_generation_pipeline(self) -> Any:
        """Flux2Pipeline with the transformer, the VAE, and the scheduler settings that came with the model."""
        return Flux2Pipeline(transformer=self.transformer, **self._pipeline_parts())

    def get_sampling_sigmas(self, num_steps: int, num_tokens: int) -> Tensor:
        """See BaseModel.get_sampling_sigmas. The more steps, the more of them are at low noise."""
        mu = compute_empirical_mu(image_seq_len=num_tokens, num_steps=num_steps)
        return self.sigmas_of(self._scheduler, num_steps, mu=mu)

    def generate_single_image(
        self, pipeline: Any, item: SampleItem, condition: SampleCondition, generator: torch.Generator
    ) -> Image.Image:
        """See BaseModel.generate_single_image. The assistant LoRA is off, as it will be for users of the result."""
        return self.generate_images(pipeline, [item], condition, [generator])[0]

    def generate_images(
        self,
        pipeline: Any,
        items: Sequence[SampleItem],
        condition: SampleCondition,
        generators: Sequence[torch.Generator],
    ) -> list[Image.Image]:
        """See BaseModel.generate_images."""
        arguments, limit = self._pipeline_arguments(items, condition), self._whole_px
        with self.without_assistant_lora():
            return sampling.draw(pipeline, items[0], arguments, generators, encode=self.encode_images, limit=limit)

    def _pipeline_arguments(self, items: Sequence[SampleItem], condition: SampleCondition) -> dict[str, Any]:
        prompts = [item.prompt for item in items]
        arguments = {
            "prompt_embeds": self._embeds_of(condition, prompts),
            "guidance_scale": items[0].guidance_scale,
        }
        if condition.references:
            arguments["image"] = list(condition.references)
        negatives = [text for item in items if (text := item.negative_prompt(self.card)) is not None]
        if negatives:
            arguments["negative_prompt_embeds"] = self._embeds_of(condition, negatives)
        return arguments

    def _embeds_of(self, condition: SampleCondition, prompts: Sequence[str]) -> Tensor:
        return torch.stack([condition.prompt_embeds[prompt] for prompt in prompts]).to(self.device, self.dtype)

    @cached_property
    def _scheduler(self) -> Any:
        return self._load_scheduler()

    def _load_scheduler(self) -> Any:
        return self.sources.load_scheduler(released_files.SCHEDULER)

    def _pipeline_parts(self) -> dict[str, Any]:
        return {"scheduler": self._load_scheduler(), "vae": self.vae, "text_encoder": None, "tokenizer": None}

    @property
    def _text_width(self) -> int | None:
        """Width of the text encoder that the transformer was trained with; None if not known without downloads."""
        path = Path(self.model_config.source_of("transformer") or self.model_config.name_or_path).expanduser()
        width = self.card.prompt_embeds_shape[1] if str(path) == self.card.source else loading.prompt_width(path)
        return width // len(self.text_layers) if width else None

    def _load_tokenizer(self) -> None:
        if self.tokenizer is None:
            folder = self.sources.find("tokenizer").path
            self.tokenizer = prompt_encoding.load_tokenizer(folder, padding_side=self.padding_side)
            prompt_encoding.check_template(self.tokenizer, self.render_prompt, folder)


class Flux2Klein4BModel(Flux2Model):
    """FLUX.2 klein 4B, with true CFG and a Qwen3 text encoder."""

    arch: ClassVar[str] = "flux2_klein_4b"
    text_encoder_kind: ClassVar[str] = "qwen3"
    padding_side: ClassVar[Literal["left", "right"]] = "right"
    render_prompt: ClassVar[Callable[..., str]] = staticmethod(prompt_encoding.render_klein)
    text_layers: ClassVar[tuple[int, ...]] = (9, 18, 27)

    def get_generation_pipeline(self) -> Any:
        """Flux2KleinPipeline with the transformer, the VAE, and the scheduler settings that came with the model."""
        return Flux2KleinPipeline(transformer=self.transformer, is_distilled=False, **self._pipeline_parts())


class Flux2Klein9BModel(Flux2Klein4BModel):
    """FLUX.2 klein 9B: the same design as 4B, but wider."""

    arch: ClassVar[str] = "flux2_klein_9b"


class Flux2TinyModel(Flux2Klein4BModel):
    """The tiny klein model of the demo and the tests, with short prompts."""

    arch: ClassVar[str] = "flux2_tiny"
    max_text_tokens: ClassVar[int] = 48
