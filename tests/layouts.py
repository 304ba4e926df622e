"""Small FLUX.2 models of both kinds, written in every layout in which people have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, Flux2Transformer2DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PreTrainedTokenizerFast

from extensions_built_in.diffusion_models.flux2.released_files import to_single_file

State = dict[str, Tensor]
FP8 = torch.float8_e4m3fn
VAE_WIDTHS = (32, 32, 64, 64)


def small_transformer(*, guidance_embeds: bool, joint_dim: int = 96) -> Flux2Transformer2DModel:
    """A transformer of the dev kind (with guidance) or the klein kind, in bf16."""
    torch.manual_seed(0)
    model = Flux2Transformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=joint_dim,
        timestep_guidance_channels=32,
        axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=guidance_embeds,
    )
    return model.to(torch.bfloat16)


def small_vae(*, decoder_widths: tuple[int, ...] | None = None) -> AutoencoderKLFlux2:
    """A VAE with latent statistics that are not the trivial ones."""
    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(
        block_out_channels=VAE_WIDTHS,
        decoder_block_out_channels=decoder_widths,
        layers_per_block=1,
        latent_channels=16,
        sample_size=64,
    )
    vae.bn.running_mean.uniform_(-1, 1)
    vae.bn.running_var.uniform_(0.5, 2)
    return vae.eval()


def released_transformer(model: Flux2Transformer2DModel) -> State:
    """The weights under the names of the released file."""
    return to_single_file(model.state_dict())


def released_vae(vae: AutoencoderKL | AutoencoderKLFlux2) -> State:
    """The weights under the names of the released file: the reverse of how diffusers renames them."""
    blocks = len(vae.config.block_out_channels)
    state = {}
    for name, tensor in vae.state_dict().items():
        for i in range(blocks):
            name = name.replace(f"down_blocks.{i}.resnets.", f"down.{i}.block.")
            name = name.replace(f"down_blocks.{i}.downsamplers.0.", f"down.{i}.downsample.")
            if f"up_blocks.{i}." in name:
                name = name.replace(f"up_blocks.{i}.resnets.", f"up.{blocks - 1 - i}.block.")
                name = name.replace(f"up_blocks.{i}.upsamplers.0.", f"up.{blocks - 1 - i}.upsample.")
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        if "mid_block.attentions.0" in name:
            for ours, theirs in (("to_out.0", "proj_out"), ("to_", ""), ("group_norm", "norm")):
                name = name.replace(ours, theirs)
            name = name.replace("mid_block.attentions.0", "mid.attn_1")
            if tensor.ndim == 2:
                tensor = tensor[:, :, None, None]
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        name = {"quant_conv": "encoder.quant_conv", "post_quant_conv": "decoder.post_quant_conv"}.get(
            name.partition(".")[0], name.partition(".")[0]
        ) + name[len(name.partition(".")[0]) :]
        state[name] = tensor.contiguous()
    state.pop("bn.num_batches_tracked", None)
    return state


def scaled(state: State, *, weight: str = "weight_scale", per_row: bool = False) -> State:
    """The layers of the blocks in fp8, each with a scale beside it."""
    result = {}
    for name, tensor in state.items():
        if not ("_blocks." in name or "layers." in name) or tensor.ndim != 2:
            result[name] = tensor
            continue
        top = (tensor.float().abs().amax(dim=1) if per_row else tensor.float().abs().amax()) / 448
        layer = name.removesuffix(".weight")
        result[name] = (tensor.float() / (top[:, None] if per_row else top)).to(FP8)
        result[f"{layer}.{weight}"] = top
    return result


def unscaled_reference(state: State) -> State:
    """What `scaled` files stand for, in fp32."""
    result = {}
    for name, tensor in state.items():
        scale = state.get(f"{name.removesuffix('.weight')}.weight_scale")
        if not name.endswith("_scale"):
            result[name] = tensor.float() * (1 if scale is None else scale.reshape(-1, 1))
    return result


def comfy_scaled(state: State) -> State:
    """fp8 with scales as newer ComfyUI files have it."""
    result = scaled(state)
    for name in [name for name in result if name.endswith(".weight_scale")]:
        layer = name.removesuffix(".weight_scale")
        result[f"{layer}.input_scale"] = torch.tensor(1.0)
        result[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode())).byte()
    return prefixed(result)


def comfy_scaled_old(state: State) -> State:
    """fp8 with scales as older ComfyUI files have it."""
    result = scaled(state, weight="scale_weight")
    for name in [name for name in result if name.endswith(".scale_weight")]:
        result[name.replace("scale_weight", "scale_input")] = torch.tensor(1.0)
    result["scaled_fp8"] = torch.empty(2, dtype=FP8)
    return prefixed(result)


def prefixed(state: State) -> State:
    """With the prefix that ComfyUI puts before the model."""
    return {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()}


def comfy(state: State) -> State:
    """A ComfyUI checkpoint: prefix, norms called `weight`, and other components beside."""
    named = {name.replace("norm.scale", "norm.weight"): tensor for name, tensor in state.items()}
    return prefixed(named) | {"text_encoders.qwen3_4b.logit_scale": torch.ones(1)}


def plain_fp8(state: State) -> State:
    """Everything in fp8, without scales."""
    return {name: tensor.to(FP8) for name, tensor in state.items()}


def per_row_fp8(state: State) -> State:
    """fp8 with a scale for each row, as Black Forest Labs' own fp8 files."""
    return scaled(state, per_row=True)


# Layout -> what it does to the released names; None for the names of diffusers.
SINGLE_FILES: dict[str, Callable[[State], State]] = {
    "released": dict,
    "comfy": comfy,
    "fp8": plain_fp8,
    "fp8 scaled": comfy_scaled,
    "fp8 scaled, older": comfy_scaled_old,
    "fp8 per row": per_row_fp8,
}
LAYOUTS = (*SINGLE_FILES, "folder of single files", "diffusers", "diffusers sharded", "diffusers names, one file")


def write_model(
    folder: Path, layout: str, transformer: Flux2Transformer2DModel, *, stem: str, is_distilled: bool = False
) -> Path:
    """Write transformer and VAE in a layout. Returns what a job names in `name_or_path`."""
    folder.mkdir(parents=True, exist_ok=True)
    if layout.startswith("diffusers") and layout != "diffusers names, one file":
        transformer.save_pretrained(
            folder / "transformer", max_shard_size="100KB" if layout.endswith("sharded") else "1GB"
        )
        small_vae().save_pretrained(folder / "vae")
        klein = not transformer.config.guidance_embeds
        index = {"_class_name": "Flux2KleinPipeline" if klein else "Flux2Pipeline", "is_distilled": is_distilled}
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder
    if layout == "diffusers names, one file":
        state = transformer.state_dict()
    else:
        state = SINGLE_FILES.get(layout, dict)(released_transformer(transformer))
    path = folder / f"{stem}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    save_file(released_vae(small_vae()), folder / "ae.safetensors")
    return folder if layout == "folder of single files" else path


def write_text_encoder(folder: Path) -> Path:
    """A text encoder of the dev kind with as many layers as the dev model reads, and its tokenizer."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    bpe.train_from_iterator([], trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}"
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=template, model_max_length=4096, **names)
    tokenizer.save_pretrained(folder / "tokenizer")
    text = {"model_type": "mistral", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48}
    text |= {"num_hidden_layers": 31, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    vision = {"model_type": "pixtral", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"head_dim": 8, "intermediate_size": 16, "image_size": 32, "patch_size": 16, "num_channels": 3}
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=8, vision_feature_layer=-1)
    torch.manual_seed(0)
    Mistral3ForConditionalGeneration(config).save_pretrained(folder / "text_encoder")
    return folder
