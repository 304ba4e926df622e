"""extensions_built_in.diffusion_models.flux2.latents and transformer"""

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel

from extensions_built_in.diffusion_models.flux2 import latents
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from tests.tiny import tiny_model


def _vae() -> AutoencoderKLFlux2:
    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32
    ).eval()
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def test_encode_is_what_diffusers_pipeline_does_with_a_reference_image() -> None:
    vae, pixels = _vae(), torch.rand(1, 3, 32, 64) * 2 - 1
    pipeline = Flux2KleinPipeline(scheduler=None, vae=vae, text_encoder=None, tokenizer=None, transformer=None)
    ours = latents.encode(vae, pixels)
    assert ours.shape == (1, 16, 2, 4)
    assert torch.equal(ours, pipeline._encode_vae_image(pixels, generator=None))


def test_decode_undoes_the_normalisation() -> None:
    vae = _vae()
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        direct = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
    assert torch.allclose(latents.decode(vae, latents.encode(vae, pixels)), direct, atol=1e-5)


def test_pictures_above_the_limit_go_through_in_tiles_and_look_the_same() -> None:
    vae = tiny_model("vae").vae  # its tiles have 128 pixels
    pixels = torch.full((1, 3, 192, 256), -0.6)
    pixels[:, 0, 60:140, 40:120] = 0.9
    pixels[:, 1, 30:90, 150:220] = 0.9
    limit = 192 * 256
    whole = latents.encode(vae, pixels, limit=limit)
    assert torch.equal(whole, latents.encode(vae, pixels)), "up to 2048 x 2048 nothing changes"
    tiled = latents.encode(vae, pixels, limit=limit - 1)
    assert 0 < (tiled - whole).norm() < 0.3 * whole.norm()
    picture, tiled_picture = latents.decode(vae, whole, limit=limit), latents.decode(vae, whole, limit=limit - 1)
    assert 0 < (tiled_picture - picture).norm() < 0.3 * picture.norm()
    assert tiled_picture.shape == pixels.shape
    assert not vae.use_tiling


def test_a_batch_in_slices_is_the_same_as_its_pictures_alone() -> None:
    vae, pixels = _vae(), torch.rand(3, 3, 32, 32) * 2 - 1
    vae.enable_slicing()
    alone = torch.cat([latents.encode(vae, picture[None]) for picture in pixels])
    assert torch.equal(latents.encode(vae, pixels), alone)


def test_encoding_leaves_the_statistics_alone() -> None:
    vae = _vae()
    before = vae.bn.running_mean.clone()
    latents.encode(vae, torch.zeros(1, 3, 32, 32))
    assert torch.equal(vae.bn.running_mean, before)


def test_velocity_of_pictures_is_the_transformers_output_on_tokens() -> None:
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=True,
    )
    noisy, sigma, embeds = torch.randn(2, 16, 3, 4), torch.tensor([0.2, 0.9]), torch.randn(2, 5, 24)
    with torch.no_grad():
        ours = predict_velocity(transformer, noisy, sigma, embeds, guidance=2.0)
        tokens = transformer(
            hidden_states=noisy.flatten(2).transpose(1, 2),
            encoder_hidden_states=embeds,
            timestep=sigma,
            guidance=torch.tensor([2.0, 2.0]),
            img_ids=torch.tensor([[0, h, w, 0] for h in range(3) for w in range(4)]),
            txt_ids=torch.tensor([[0, 0, 0, place] for place in range(5)]),
            return_dict=False,
        )[0]
    assert ours.shape == noisy.shape
    assert torch.equal(ours.flatten(2).transpose(1, 2), tokens)
