"""A tiny FLUX.1 for tests: dev, schnell or Kontext with random weights, in any layout in which people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from extensions_built_in.diffusion_models.flux.flux_model import FluxModel
from extensions_built_in.diffusion_models.flux.released_files import SCHEDULER, SCHNELL_SCHEDULER, to_single_file
from tests.layouts import SINGLE_FILES, VAE_WIDTHS, released_vae
from tests.tiny import tiny_config
from toolkit.models.options import ModelOptions
from toolkit.util.get_model import get_model_class

# Kind -> arch, and the name of its released file.
KINDS = {
    "dev": ("flux", "flux1-dev"),
    "schnell": ("flux", "flux1-schnell"),
    "kontext": ("flux_kontext", "flux1-kontext-dev"),
}
LAYOUTS = ("diffusers", "diffusers sharded", "folder of single files", *SINGLE_FILES)
_PIPELINES = {"dev": "FluxPipeline", "schnell": "FluxPipeline", "kontext": "FluxKontextPipeline"}


def make_tiny_flux(folder: Path, kind: str = "dev", layout: str = "diffusers") -> dict[str, Any]:
    """Write a tiny model. Returns the `model` section of a job that uses it.

    Args:
        folder: where; made if it is absent.
        kind: a key of `KINDS`.
        layout: one of `LAYOUTS`.
    """
    arch, stem = KINDS[kind]
    transformer, vae = tiny_transformer(guidance_embeds=kind != "schnell"), tiny_vae()
    encoders = write_text_encoders(folder / "encoders" if not layout.startswith("diffusers") else folder)
    section: dict[str, Any] = {"name_or_path": str(folder), "arch": arch}
    if layout.startswith("diffusers"):
        size = "100KB" if layout.endswith("sharded") else "1GB"
        transformer.save_pretrained(folder / "transformer", max_shard_size=size)
        vae.save_pretrained(folder / "vae")
        settings = SCHNELL_SCHEDULER if kind == "schnell" else SCHEDULER
        FlowMatchEulerDiscreteScheduler(**settings).save_pretrained(folder / "scheduler")
        (folder / "model_index.json").write_text(json.dumps({"_class_name": _PIPELINES[kind]}))
        return section
    state = SINGLE_FILES.get(layout, dict)(to_single_file(transformer.state_dict()))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / f"{stem}.safetensors")
    save_file(released_vae(vae), folder / "ae.safetensors")
    if layout != "folder of single files":
        section["name_or_path"] = str(folder / f"{stem}.safetensors")
    return {**section, "te_name_or_path": str(encoders)}


def tiny_flux(
    section: dict[str, Any], *components: str, options: ModelOptions | None = None, **settings: Any
) -> FluxModel:
    """The model of a `model` section in fp32 on the CPU, with some of its components loaded."""
    config = tiny_config(**{**section, **settings})
    cpu = torch.device("cpu")
    model = get_model_class(config)(config, device=cpu, dtype=torch.float32, options=options or ModelOptions())
    assert isinstance(model, FluxModel)
    for component in components:
        model.load(component)  # type: ignore[arg-type]
    return model


def tiny_transformer(*, guidance_embeds: bool = True) -> FluxTransformer2DModel:
    """Two blocks of each kind, in bf16, with norms that are not the trivial ones."""
    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 14, 14),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm_q" in name or "norm_k" in name or "norm_added" in name:
                parameter.uniform_(0.5, 1.5)
    return model.to(torch.bfloat16).eval()


def tiny_vae() -> AutoencoderKL:
    """A VAE with the released model's shift and scale."""
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=VAE_WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        force_upcast=True,
        mid_block_add_attention=True,
    ).eval()


def write_text_encoders(folder: Path) -> Path:
    """`folder` with CLIP, T5 and their tokenizers in it."""
    clip_tokenizer = _tokenizer("<s> $A </s>", length=77)
    t5_tokenizer = _tokenizer("$A </s>", length=512)
    clip_tokenizer.save_pretrained(folder / "tokenizer")
    t5_tokenizer.save_pretrained(folder / "tokenizer_2")
    torch.manual_seed(2)
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=clip_tokenizer.bos_token_id,
            eos_token_id=clip_tokenizer.eos_token_id,
            pad_token_id=clip_tokenizer.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer),
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            use_cache=False,
        )
    )
    clip.save_pretrained(folder / "text_encoder")
    t5.save_pretrained(folder / "text_encoder_2")
    return folder


def _tokenizer(template: str, *, length: int) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator([], trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet))
    bpe.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=length, **names)
