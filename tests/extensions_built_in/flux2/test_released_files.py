"""extensions_built_in.diffusion_models.flux2.released_files and lora_names"""

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers

from extensions_built_in.diffusion_models.flux2 import lora_names
from extensions_built_in.diffusion_models.flux2.released_files import to_single_file
from toolkit.lora.update import LayerLocation


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
    covered = [module for target in lora_names.targets(transformer) for module in target.modules]
    assert len(covered) == len(set(covered))
    assert set(covered) == linears - {"norm_out.linear"}


def test_block_targets_are_8_per_double_and_2_per_single_block() -> None:
    names = [target.name for target in lora_names.targets(_transformer(guidance_embeds=False))]
    assert sum(name.startswith("double_blocks.") for name in names) == 2 * 8
    assert sum(name.startswith("single_blocks.") for name in names) == 3 * 2


def test_every_layer_is_found_under_all_of_its_names() -> None:
    transformer = _transformer(guidance_embeds=True)
    for target in lora_names.targets(transformer):
        assert lora_names.layers_of(target.name) == target.modules
        for name in (target.name, target.name.replace(".", "_")):
            assert lora_names.locate(name) == LayerLocation(target.name)
        for part, module in enumerate(target.modules):
            for name in (module, module.replace(".", "_")):
                assert lora_names.locate(name) == LayerLocation(target.name, part, len(target.modules))


@pytest.mark.parametrize(
    "name", ["", "double_blocks.0", "double_blocks.x.img_mlp.0", "transformer_blocks.0.attn.norm_q", "unet.down"]
)
def test_what_is_not_a_layer_has_no_location(name: str) -> None:
    assert lora_names.locate(name) is None
