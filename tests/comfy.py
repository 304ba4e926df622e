"""ComfyUI's rules for FLUX.2 LoRA files, told in our words: which keys it finds, and what it adds to which weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Since January 2026 it also knows these names of diffusers; before, only those that FLUX.1 has, too.
_SINCE_2026 = {
    "ff.linear_in": "img_mlp.0",
    "ff.linear_out": "img_mlp.2",
    "ff_context.linear_in": "txt_mlp.0",
    "ff_context.linear_out": "txt_mlp.2",
}
_ALWAYS = {"attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj"}
_SLICES = {
    "attn.to_q": ("img_attn.qkv", 0),
    "attn.to_k": ("img_attn.qkv", 1),
    "attn.to_v": ("img_attn.qkv", 2),
    "attn.add_q_proj": ("txt_attn.qkv", 0),
    "attn.add_k_proj": ("txt_attn.qkv", 1),
    "attn.add_v_proj": ("txt_attn.qkv", 2),
}
_OUTER = {"x_embedder": "img_in", "context_embedder": "txt_in", "proj_out": "final_layer.linear"}
_SINGLE = {"attn.to_qkv_mlp_proj": "linear1", "attn.to_out": "linear2"}
_PAIRS = ((".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight"))


def apply_lora(
    base: Mapping[str, Tensor], lora: Mapping[str, Tensor], *, is_new: bool = True
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of a released single file with a LoRA added, and the keys that were not understood.

    Args:
        base: by released names.
        lora: a LoRA file.
        is_new: ComfyUI of 2026; before, it knew fewer of diffusers' names.
    """
    result, unused = dict(base), set(lora)
    for name, (key, _) in _key_map(base, is_new=is_new).items():
        if f"{name}.reshape_weight" in lora:  # the weight is padded with zeros before anything is added to it
            rows, columns = lora[f"{name}.reshape_weight"].tolist()
            wide = result[key].new_zeros(rows, columns)
            wide[: result[key].shape[0], : result[key].shape[1]] = result[key]
            result[key] = wide
            unused.remove(f"{name}.reshape_weight")
    for name, (key, part) in _key_map(base, is_new=is_new).items():
        for down, up in _PAIRS:
            if f"{name}{down}" in lora and f"{name}{up}" in lora:
                a, b = lora[f"{name}{down}"].float(), lora[f"{name}{up}"].float()
                scale = float(lora[f"{name}.alpha"]) / a.shape[0] if f"{name}.alpha" in lora else 1.0
                unused -= {f"{name}{down}", f"{name}{up}", f"{name}.alpha"}
                delta = scale * (b @ a)
                if f"{name}.dora_scale" in lora:
                    unused.remove(f"{name}.dora_scale")
                    delta = _decomposed(result[key], delta, lora[f"{name}.dora_scale"].float())
                result[key] = _add(result[key], delta, part)
        for roles, delta_of in _OTHERS.items():
            given = {role: lora[f"{name}.{role}"].float() for role in (*roles, "alpha") if f"{name}.{role}" in lora}
            if given.keys() - {"alpha"}:
                whole = result[key]
                rows = whole if part is None else whole.chunk(3)[part]
                result[key] = _add(whole, delta_of(rows.float(), given), part)
                unused -= {f"{name}.{role}" for role in given}
    return result, sorted(unused)


def _lokr(weight: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Alpha counts, over the rank, only if a matrix is itself a product."""
    scale, factors = 1.0, []
    for name in ("lokr_w1", "lokr_w2"):
        if name in given:
            factors.append(given[name])
        else:
            factors.append(given[f"{name}_a"] @ given[f"{name}_b"])
            scale = float(given["alpha"]) / given[f"{name}_b"].shape[0] if "alpha" in given else 1.0
    return scale * torch.kron(*factors).reshape(weight.shape)


def _diff(weight: Tensor, given: dict[str, Tensor]) -> Tensor:
    return given["diff"]


def _loha(weight: Tensor, given: dict[str, Tensor]) -> Tensor:
    scale = float(given["alpha"]) / given["hada_w1_b"].shape[0] if "alpha" in given else 1.0
    return scale * (given["hada_w1_a"] @ given["hada_w1_b"]) * (given["hada_w2_a"] @ given["hada_w2_b"])


def _oft(weight: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Rows are rotated by blocks; alpha would limit the norm."""
    q = given["oft_blocks"] - given["oft_blocks"].transpose(1, 2)
    identity = torch.eye(q.shape[1])
    r = (identity + q) @ (identity - q).inverse()
    return torch.einsum("knm,knc->kmc", r - identity, weight.view(*q.shape[:2], -1)).reshape(weight.shape)


def _decomposed(weight: Tensor, delta: Tensor, lengths: Tensor) -> Tensor:
    """W' - W of a DoRA. Lengths by row are divided by the norms of W alone, those by column by the norms of the sum."""
    turned = weight + delta
    norms = weight.norm(dim=1, keepdim=True) if len(lengths) == len(weight) else turned.norm(dim=0, keepdim=True)
    return turned * (lengths / norms) - weight


_OTHERS = {
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"): _loha,
    ("oft_blocks",): _oft,
    ("diff",): _diff,
    ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"): _lokr,
}


def _add(weight: Tensor, delta: Tensor, part: int | None) -> Tensor:
    weight = weight.clone()
    rows = weight if part is None else weight[part * delta.shape[0] : (part + 1) * delta.shape[0]]
    rows += delta.to(torch.float32)
    return weight


def _key_map(base: Mapping[str, Tensor], *, is_new: bool) -> dict[str, tuple[str, int | None]]:
    names: dict[str, tuple[str, int | None]] = {}
    for key in base:
        bare = key.removesuffix(".weight")
        names[f"diffusion_model.{bare}"] = (key, None)
        names[f"lora_unet_{bare.replace('.', '_')}"] = (key, None)
    for name, place in _diffusers_names(base, is_new=is_new).items():
        for spelled in (f"transformer.{name}", name, f"lycoris_{name.replace('.', '_')}"):
            names[spelled] = place
    return names


def _diffusers_names(base: Mapping[str, Tensor], *, is_new: bool) -> dict[str, tuple[str, int | None]]:
    names: dict[str, tuple[str, int | None]] = {}
    for index in {key.split(".")[1] for key in base if key.startswith("double_blocks.")}:
        ours, theirs = f"transformer_blocks.{index}", f"double_blocks.{index}"
        for name, inner in (_ALWAYS | (_SINCE_2026 if is_new else {})).items():
            names[f"{ours}.{name}"] = (f"{theirs}.{inner}.weight", None)
        for name, (inner, part) in _SLICES.items():
            names[f"{ours}.{name}"] = (f"{theirs}.{inner}.weight", part)
    for index in {key.split(".")[1] for key in base if key.startswith("single_blocks.")}:
        for name, inner in (_SINGLE if is_new else {}).items():
            names[f"single_transformer_blocks.{index}.{name}"] = (f"single_blocks.{index}.{inner}.weight", None)
    for name, released in _OUTER.items():
        names[name] = (f"{released}.weight", None)
    return names
