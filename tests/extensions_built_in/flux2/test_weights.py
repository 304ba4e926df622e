"""extensions_built_in.diffusion_models.flux2.weights and lora_keys"""

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers

from extensions_built_in.diffusion_models.flux2 import lora_keys
from extensions_built_in.diffusion_models.flux2.weights import to_single_file
from toolkit.errors import UserError


def _transformer(*, guidance_embeds: bool) -> Flux2Transformer2DModel:
    torch.manual_seed(0)
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )


@pytest.mark.parametrize("guidance_embeds", [False, True])
def test_diffusers_reads_our_single_file_back_bit_for_bit(guidance_embeds: bool) -> None:
    state = _transformer(guidance_embeds=guidance_embeds).state_dict()
    restored = convert_flux2_transformer_checkpoint_to_diffusers(dict(to_single_file(state)))
    assert restored.keys() == state.keys()
    assert all(torch.equal(restored[name], state[name]) for name in state)


def test_single_file_uses_the_released_names() -> None:
    names = to_single_file(_transformer(guidance_embeds=True).state_dict()).keys()
    for name in (
        "double_blocks.1.img_attn.qkv.weight",
        "double_blocks.0.txt_attn.norm.query_norm.scale",
        "single_blocks.2.linear1.weight",
        "single_blocks.2.norm.key_norm.scale",
        "guidance_in.in_layer.weight",
        "final_layer.adaLN_modulation.1.weight",
    ):
        assert name in names


@pytest.mark.parametrize("guidance_embeds", [False, True])
def test_targets_are_all_linear_layers_but_the_final_modulation(guidance_embeds: bool) -> None:
    transformer = _transformer(guidance_embeds=guidance_embeds)
    linears = {name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)}
    covered = [module for target in lora_keys.targets(transformer) for module in target.modules]
    assert len(covered) == len(set(covered))
    assert set(covered) == linears - {"norm_out.linear"}


def test_block_targets_are_8_per_double_and_2_per_single_block() -> None:
    names = [target.name for target in lora_keys.targets(_transformer(guidance_embeds=False))]
    assert sum(name.startswith("double_blocks.") for name in names) == 2 * 8
    assert sum(name.startswith("single_blocks.") for name in names) == 3 * 2


@pytest.mark.parametrize("prefix", lora_keys.READABLE_PREFIXES)
def test_files_with_any_known_prefix_are_read(prefix: str) -> None:
    known = lora_keys.targets(_transformer(guidance_embeds=False))
    state = {f"{prefix}double_blocks.0.img_attn.qkv.lora_A.weight": torch.ones(2, 3)}
    assert list(lora_keys.from_file(state, known)) == ["double_blocks.0.img_attn.qkv.lora_A.weight"]


def test_alpha_of_a_file_is_folded_into_b() -> None:
    known = lora_keys.targets(_transformer(guidance_embeds=False))
    name = "diffusion_model.single_blocks.0.linear1"
    state = {
        f"{name}.lora_down.weight": torch.ones(4, 3),
        f"{name}.lora_up.weight": torch.ones(5, 4),
        f"{name}.alpha": torch.tensor(2.0),
    }
    assert lora_keys.from_file(state, known)["single_blocks.0.linear1.lora_B.weight"].unique().tolist() == [0.5]


def test_foreign_keys_are_an_error_that_names_them() -> None:
    known = lora_keys.targets(_transformer(guidance_embeds=False))
    with pytest.raises(UserError, match=r"1 of 1 keys.*unet\.down"):
        lora_keys.from_file({"unet.down.lora_A.weight": torch.ones(1, 1)}, known)
