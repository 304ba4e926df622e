"""The model class: answers the questions of BaseModel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from extensions.example_model.network import PixelTransformer
from toolkit.config import SampleItem
from toolkit.files import sha256_file
from toolkit.lora.update import LayerLocation, Update, state_of
from toolkit.quantize.fill import linear_layers
from toolkit.models.base_model import BaseModel, Component, LoraTarget, StateDict
from toolkit.models.condition import Condition, SampleCondition
from toolkit.weights.recipe import Built
from toolkit.weights.tensor_files import read_tensors

PATCH_PX = 4
LAYER = re.compile(r"blocks[._](\d+)[._](qkv|out|mlp_in|mlp_out)")


class ExampleModel(BaseModel):
    """Characters as text embeddings, pixel shuffle as the VAE, and a transformer small enough for any CPU."""

    arch: ClassVar[str] = "example_pixels"
    max_text_tokens: ClassVar[int] = 32

    # Loading

    def load(self, component: Component) -> None:
        """See BaseModel.load. Without a file, the transformer starts from the same random weights every time."""
        if getattr(self, component) is not None:
            return
        if component == "transformer":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                module: nn.Module = PixelTransformer()
            if self._file is not None:
                module.load_state_dict(read_tensors(self._file))
        elif component == "text_encoder":
            module = nn.Embedding.from_pretrained(torch.randn(256, 64, generator=torch.Generator().manual_seed(1)))
        else:
            module = nn.PixelUnshuffle(PATCH_PX)
        dtype = self.transformer_dtype if component == "transformer" else self.dtype
        setattr(self, component, self.load_recipe(component, Built(module.eval()), dtype=dtype))

    def get_quantizable_layers(self, component: Component, module: nn.Module) -> list[str]:
        """See BaseModel.get_quantizable_layers. Those in the blocks; the text encoder is an embedding and has none."""
        return linear_layers(module, self.list_blocks(module))

    def fingerprint(self, component: Component) -> str:
        """See BaseModel.fingerprint."""
        if component == "transformer" and self._file is not None:
            return sha256_file(self._file)
        return f"example-{component}-1"

    @property
    def _file(self) -> Path | None:
        path = Path(self.model_config.name_or_path)
        return path if path.is_file() else None

    # Text and images

    def get_prompt_embeds(self, prompts: Sequence[str]) -> Tensor:
        """See BaseModel.get_prompt_embeds. Embeddings are [B, 32, 64]."""
        letters = [list(prompt.encode()[: self.max_text_tokens].ljust(self.max_text_tokens)) for prompt in prompts]
        return self.text_encoder(torch.tensor(letters, device=self.device))

    def encode_images(self, pixels: Tensor) -> Tensor:
        """See BaseModel.encode_images. Latents are [B, 48, H / 4, W / 4]."""
        return self.vae(pixels.to(self.device)) * 2

    def decode_latents(self, latents: Tensor) -> Tensor:
        """See BaseModel.decode_latents."""
        return nn.functional.pixel_shuffle(latents.float() / 2, PATCH_PX)

    # Training

    def get_noise_prediction(self, noisy_latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """See BaseModel.get_noise_prediction."""
        return self.transformer(noisy_latents, timestep / 1000, condition.prompt_embeds)

    # LoRA and saving

    def get_transformer_block_names(self) -> list[str]:
        """See BaseModel.get_transformer_block_names."""
        return ["blocks"]

    def get_lora_targets(self) -> list[LoraTarget]:
        """See BaseModel.get_lora_targets."""
        names = [name for name, _ in self.transformer.named_modules() if LAYER.fullmatch(name)]
        return [LoraTarget(name, (name,)) for name in names]

    @classmethod
    def locate_layer(cls, name: str) -> LayerLocation | None:
        """See BaseModel.locate_layer."""
        match = LAYER.fullmatch(name)
        return match and LayerLocation(f"blocks.{match[1]}.{match[2]}")

    @classmethod
    def write_lora(cls, updates: Mapping[str, Update], file_format: str) -> StateDict:
        """See BaseModel.write_lora. No other program reads this model, so all formats use the same names."""
        return {f"diffusion_model.{key}": tensor for key, tensor in state_of(updates).items()}

    def model_state_to_save(self) -> StateDict:
        """See BaseModel.model_state_to_save."""
        return self.transformer.state_dict()

    # Sampling

    def get_generation_pipeline(self) -> Any:
        """See BaseModel.get_generation_pipeline. Not needed: `generate_single_image` has its own short loop."""
        return None

    def generate_single_image(
        self, pipeline: Any, item: SampleItem, condition: SampleCondition, generator: torch.Generator
    ) -> Image.Image:
        """See BaseModel.generate_single_image. Takes Euler steps from noise to image."""
        size = (3 * PATCH_PX**2, item.height // PATCH_PX, item.width // PATCH_PX)
        latents = torch.randn(1, *size, generator=generator).to(self.device)
        embeds = condition.prompt_embeds[item.prompt].unsqueeze(0).to(self.device, self.dtype)
        sigmas = torch.linspace(1, 0, item.sample_steps + 1, device=self.device)
        for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
            velocity = self.get_noise_prediction(latents, 1000 * sigma[None], Condition(embeds))
            latents = latents + (following - sigma) * velocity
        pixels = self.decode_latents(latents)[0].clamp(-1, 1)  # [3, H, W]
        return Image.fromarray(((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy())
