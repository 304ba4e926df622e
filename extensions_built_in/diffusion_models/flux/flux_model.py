"""The FLUX.1 models: dev, schnell and Kontext."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy
import torch
from diffusers import FluxKontextPipeline, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from PIL import Image
from torch import Tensor, nn

from extensions_built_in.diffusion_models.flux import latents, lora_names, prompt_encoding, released_files, sites
from extensions_built_in.diffusion_models.flux.loading import transformer_recipe, vae_recipe
from extensions_built_in.diffusion_models.flux.prompt_encoding import from_rows
from extensions_built_in.diffusion_models.flux.text_encoder import clip_recipe, folder_of, is_t5, t5_recipe
from extensions_built_in.diffusion_models.flux.transformer import own_backward, predict_velocity, tokens_of
from toolkit.config import SampleItem
from toolkit.files import sha256_json
from toolkit.lora.update import Location, SizedTarget, Update
from toolkit.model_size import TransformerSize
from toolkit.models.base_model import AttentionSite, Component, Ends, LoraTarget, OwnBackward, PromptCut, StateDict
from toolkit.models.condition import Condition, SampleCondition
from toolkit.models.vae_precision import vae_precision
from toolkit.stable_diffusion_model import StableDiffusion
from toolkit.weights.fingerprint import fingerprint
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.text_folder import read_tokenizer
from toolkit.weights.vae_identity import vae_fingerprint


class FluxModel(StableDiffusion):
    """FLUX.1 dev, or schnell if the weights have no guidance embedding."""

    arch: ClassVar[str] = "flux"
    base_model_version: ClassVar[str | None] = "flux.1"
    components: ClassVar[tuple[str, ...]] = (
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
    )
    target_lora_modules: ClassVar[list[str]] = ["FluxTransformer2DModel"]
    _is_schnell: bool | None = None

    @property
    def is_schnell(self) -> bool:
        """Whether the weights have no guidance embedding. Reads the headers of the transformer's files once."""
        if self._is_schnell is None:
            module: Any = transformer_recipe(self.sources.find("transformer"), arch=self.arch).module
            self._is_schnell = not module.config.guidance_embeds
        return self._is_schnell

    @property
    def max_text_tokens(self) -> int:  # type: ignore[override]
        """Length to which T5's prompts are padded: 256 for schnell, 512 for the others."""
        return 256 if self.is_schnell else 512

    # Loading

    @classmethod
    def single_files(cls, component: str) -> tuple[str, ...]:
        """See PublishedModel.single_files."""
        return released_files.single_files(cls.arch, component)

    def file_checks(self) -> Mapping[str, Callable[[ComponentFiles], object]]:
        """See PublishedModel.file_checks."""
        return {
            "transformer": lambda files: transformer_recipe(files, arch=self.arch),
            "vae": vae_recipe,
            "text_encoder": lambda files: clip_recipe(files, device=self.device),
            "text_encoder_2": t5_recipe,
            **dict.fromkeys(("tokenizer", "tokenizer_2"), lambda files: read_tokenizer(folder_of(files))),
        }

    def load(self, component: Component) -> None:
        """See BaseModel.load; `sources` documents the supported layouts."""
        if getattr(self, component) is not None:
            return
        if component == "text_encoder":
            self._load_tokenizers()
            recipes = (
                clip_recipe(self.sources.find("text_encoder"), device=self.device),
                t5_recipe(self.sources.find("text_encoder_2")),
            )
            clip, t5 = (self.load_recipe(component, recipe, dtype=self.te_dtype) for recipe in recipes)
            self.text_encoder = prompt_encoding.TextEncoders(clip, t5)
        elif component == "vae":
            self.vae = self.load_recipe(component, vae_recipe(self.sources.find("vae")), dtype=self.vae_dtype)
            self.vae.enable_slicing()  # a batch takes the memory of one image
        else:
            recipe = transformer_recipe(self.sources.find("transformer"), arch=self.arch)
            self.transformer = self.load_recipe(component, recipe, dtype=self.transformer_dtype)
            self.load_assistant_lora()

    def list_blocks(self, module: nn.Module) -> list[str]:
        """See BaseModel.list_blocks. T5's are in its encoder; CLIP has none: it is not quantized or offloaded."""
        if is_t5(module):
            encoder: Any = module.encoder
            return [f"encoder.{name}" for name in super().list_blocks(encoder)]
        return super().list_blocks(module)

    def fingerprint(self, component: Component) -> str:
        """See BaseModel.fingerprint. All archs of the family share one VAE, and therefore cached latents."""
        files = self.sources.find(component)
        if component == "vae":
            return vae_fingerprint(files, settings=latents.ENCODER_SETTINGS, dtype=self.vae_dtype)
        facts: dict[str, Any] = {"weights": fingerprint(files)}
        if component == "text_encoder":
            others = ("text_encoder_2", "tokenizer", "tokenizer_2")
            facts |= {name: fingerprint(self.sources.find(name)) for name in others}
            facts |= {
                "dtype": str(self.te_dtype),
                "max_tokens": self.max_text_tokens,
                "encoding": prompt_encoding.ENCODING_VERSION,
                "qtype": self.loader.qtype(component),
            }
        return sha256_json(facts)

    # Text and images

    def get_prompt_embeds(self, prompts: Sequence[str]) -> Tensor:
        """See BaseModel.get_prompt_embeds. T5's rows and one row with CLIP's vector, see `prompt_encoding`."""
        return prompt_encoding.encode(self.text_encoder, self.tokenizer, prompts, max_tokens=self.max_text_tokens)

    def cut_prompt(self, prompt: str) -> PromptCut | None:
        """See BaseModel.cut_prompt. Considers T5 only: CLIP is expected to read just the first 77 tokens."""
        self._load_tokenizers()
        return prompt_encoding.find_cut(self.tokenizer.t5, prompt, max_tokens=self.max_text_tokens)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """See BaseModel.encode_images. Latents are [B, 16, H / 8, W / 8]."""
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
            guidance=None if condition.bypass_guidance_embedding else condition.guidance,
            references=condition.references,
        )

    def own_backward(self) -> OwnBackward:
        """See BaseModel.own_backward."""
        return own_backward(self.transformer)

    # LoRA and saving

    def get_attention_sites(self) -> list[AttentionSite]:
        """See BaseModel.get_attention_sites."""
        return sites.attention_sites(self.transformer)

    def get_ends(self) -> Ends:
        """See BaseModel.get_ends."""
        return sites.ends(self.transformer)

    def tokens_of(self, latents_: Tensor) -> Tensor:
        """See BaseModel.tokens_of. Each token has 2 x 2 cells."""
        return tokens_of(latents_)

    def get_transformer_block_names(self) -> list[str]:
        """`transformer_blocks` and `single_transformer_blocks`."""
        return list(lora_names.BLOCK_LISTS)

    def get_lora_targets(self) -> list[LoraTarget]:
        """See BaseModel.get_lora_targets."""
        return lora_names.targets(self.transformer)

    @classmethod
    def list_lora_targets(cls, size: TransformerSize) -> list[SizedTarget]:
        """See PublishedModel.list_lora_targets."""
        return lora_names.targets_of_size(size)

    def plan_lora_targets(self) -> list[SizedTarget]:
        """See BaseModel.plan_lora_targets. From the headers of local files, else from the card."""
        module = self.plan_transformer()
        if module is None:
            return super().plan_lora_targets()
        return [SizedTarget.of(target, module) for target in lora_names.targets(module)]

    def plan_transformer(self) -> Any:
        """See BaseModel.plan_transformer."""
        files = self.sources.find_local("transformer")
        return None if files is None else transformer_recipe(files, arch=self.arch).module

    @classmethod
    def locate_layer(cls, name: str) -> Location | None:
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
        """FluxPipeline with the transformer, the VAE, and the scheduler settings that came with the model."""
        return FluxPipeline(transformer=self.transformer, **self._pipeline_parts())

    def get_sampling_sigmas(self, num_steps: int, num_tokens: int) -> Tensor:
        """See BaseModel.get_sampling_sigmas."""
        scheduler = self._scheduler
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        mu = calculate_shift(num_tokens, *(scheduler.config[name] for name in names))
        return self.sigmas_of(scheduler, num_steps, mu=mu)

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
        item, embeds = items[0], [condition.prompt_embeds[item.prompt] for item in items]
        rows = torch.stack(embeds).to(self.device, self.dtype)  # [B, L + 1, D]
        text, pooled = from_rows(rows, self.transformer.config.pooled_projection_dim)
        pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad(), self.without_assistant_lora():
            tokens = pipeline(
                prompt_embeds=text,
                pooled_prompt_embeds=pooled,
                height=item.height,
                width=item.width,
                num_inference_steps=item.sample_steps,
                guidance_scale=item.guidance_scale,
                generator=list(generators),
                output_type="latent",
                **self._pipeline_arguments(item, condition.references),
            ).images  # [B, S, 4C]
            drawn = pipeline._unpack_latents(tokens, item.height, item.width, pipeline.vae_scale_factor)
            with vae_precision(self.vae):
                pixels = self.decode_latents(drawn)
        images: list[Image.Image] = pipeline.image_processor.postprocess(pixels)
        return images

    def _pipeline_arguments(self, item: SampleItem, references: Sequence[Image.Image]) -> dict[str, Any]:
        assert not references, "the check rejects references for this model"
        return {}

    @cached_property
    def _scheduler(self) -> Any:
        return self._load_scheduler()

    def _load_scheduler(self) -> Any:
        released = released_files.SCHNELL_SCHEDULER if self.is_schnell else released_files.SCHEDULER
        return self.sources.load_scheduler(released)

    def _pipeline_parts(self) -> dict[str, Any]:
        absent = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
        return {"scheduler": self._load_scheduler(), "vae": self.vae, **dict.fromkeys(absent)}

    def _load_tokenizers(self) -> None:
        if self.tokenizer is None:
            found = (self.sources.find(name) for name in ("tokenizer", "tokenizer_2"))
            self.tokenizer = prompt_encoding.Tokenizers(*(read_tokenizer(folder_of(files)) for files in found))


class FluxKontextModel(FluxModel):
    """FLUX.1 Kontext: dev with a reference image."""

    arch: ClassVar[str] = "flux_kontext"
    base_model_version: ClassVar[str | None] = "flux.1_kontext"

    def get_generation_pipeline(self) -> Any:
        """FluxKontextPipeline with the transformer, the VAE, and the scheduler settings that came with the model."""
        return FluxKontextPipeline(transformer=self.transformer, **self._pipeline_parts())

    def _pipeline_arguments(self, item: SampleItem, references: Sequence[Image.Image]) -> dict[str, Any]:
        # Otherwise the pipeline would generate about one megapixel whatever was asked, and resize the reference, too.
        arguments: dict[str, Any] = {"max_area": item.width * item.height, "_auto_resize": False}
        if not references:
            return arguments
        pixels = torch.from_numpy(numpy.array(references[0])).permute(2, 0, 1).unsqueeze(0)  # [1, 3, H, W]
        with torch.no_grad(), vae_precision(self.vae):
            return {**arguments, "image": self.encode_images(pixels.float() / 127.5 - 1)}
