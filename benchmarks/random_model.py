"""Models of the released sizes with random weights: made in memory, or written to a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from torch import Tensor, nn

from benchmarks.load import HEAD_DIM, write_random, write_random_model
from extensions_built_in.diffusion_models.flux2.loading import RELEASED, Build
from extensions_built_in.diffusion_models.flux2.released_files import single_files
from toolkit.weights.recipe import Recipe
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import unchanged
from toolkit.weights.tensor_index import TensorIndex

TINY = Path(__file__).resolve().parents[1] / "assets" / "flux2_tiny"
SIGMA = 0.02  # of every matrix; zeros would be faster to multiply than the weights of a real model
# width, inner width and layers of the text encoders of klein: Qwen3 4B and 8B
_QWEN3 = {"flux2_klein_4b": (2560, 9728, 36), "flux2_klein_9b": (4096, 12288, 36)}


class RandomWeights(PlainWeights):
    """Weights that are drawn when they are read, on the device that they are read to: a large model needs no file."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__(TensorIndex({}))
        self.entries = dict.fromkeys(shapes)  # type: ignore[assignment] # nothing asks for more than the names
        self.shapes = shapes

    def read(self, name: str, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """See PlainWeights. Norms are 1, everything else is normal."""
        value = torch.empty(self.shapes[name], dtype=dtype, device=device)
        return value.fill_(1.0) if value.ndim == 1 else value.normal_(0, SIGMA)


def transformer_build(arch: str) -> Build:
    """The size of a model's transformer; `mid` and `small` are sizes for a CPU."""
    small = {
        "small": Build(hidden=512, joint_dim=1536, num_double=2, num_single=6, has_guidance=False),
        "mid": Build(hidden=1024, joint_dim=3072, num_double=2, num_single=8, has_guidance=False),
    }
    return (small | RELEASED)[arch]


def empty_transformer(build: Build) -> Any:
    """A frozen transformer on the meta device."""
    with torch.device("meta"):
        model = Flux2Transformer2DModel(
            num_layers=build.num_double,
            num_single_layers=build.num_single,
            attention_head_dim=HEAD_DIM,
            num_attention_heads=build.hidden // HEAD_DIM,
            joint_attention_dim=build.joint_dim,
            guidance_embeds=build.has_guidance,
        )
    return model.requires_grad_(False).eval()


def position_ids(side: int, num_text: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The position ids of a square image of `side` x `side` tokens and of its text, [1, S, 4] and [1, L, 4]."""

    def ids(*counts: int) -> Tensor:
        return torch.cartesian_prod(*(torch.arange(count, device=device) for count in counts))[None].float()

    return ids(1, side, side, 1), ids(1, 1, 1, num_text)


def random_recipe(module: nn.Module) -> Recipe:
    """How to fill an empty module with random weights."""
    return Recipe(module, RandomWeights({name: tuple(t.shape) for name, t in module.state_dict().items()}), unchanged)


def write_random_folder(folder: Path, arch: str) -> None:
    """Write a klein model with its text encoder, its VAE and the tiny model's tokenizer and scheduler."""
    from transformers import Qwen3Config, Qwen3Model  # only for whole folders

    build, (hidden, inner, layers) = transformer_build(arch), _QWEN3[arch]
    folder.mkdir(parents=True)
    write_random_model(
        folder / single_files(arch, "transformer")[0],
        num_heads=build.hidden // HEAD_DIM,
        num_double=build.num_double,
        num_single=build.num_single,
        text_size=build.joint_dim,
    )
    text = Qwen3Config(
        vocab_size=151_936,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
    )
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Qwen3Model(text).state_dict().items()}
    text.save_pretrained(folder / "text_encoder")
    write_random(shapes, folder / "text_encoder" / "model.safetensors")
    torch.manual_seed(0)
    AutoencoderKLFlux2().save_pretrained(folder / "vae")
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(TINY / part, folder / part)
