"""control_lora: what it adds, against an embedder that really is wide, and its files in other programs' hands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.released_files import to_single_file
from extensions_built_in.diffusion_models.flux2.transformer import predict_velocity
from tests.comfy import apply_lora
from tests.tiny import TINY, tiny_model
from tests.tiny_flux import make_tiny_flux, tiny_flux
from toolkit.adapters.adapter_set import AdapterSet, control_name
from toolkit.adapters.control.control_lora import ControlLoraAdapter
from toolkit.adapters.files import load_adapter, write_adapter
from toolkit.config import AdapterConfig, NetworkConfig, SampleItem
from toolkit.errors import UserError
from toolkit.lora.__main__ import main
from toolkit.models.condition import Condition, SampleCondition
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.train.trainable import NetworkWeights

CHANNELS = 64  # of a token of the tiny model


class Setup:
    """The tiny model with an adapter whose columns are not zero, and one batch."""

    def __init__(
        self,
        *,
        with_lora: bool = False,
        blocks_only: bool = True,
        start: bool = False,
        model: Any = None,
        **settings: Any,
    ) -> None:
        self.model: Flux2TinyModel = tiny_model("transformer") if model is None else model
        self.network: Network | None = None
        if with_lora:
            self.network = Network(
                self.model, NetworkConfig.model_validate({"linear": 4, "transformer_only": blocks_only}), Draws(0)
            )
            self.network.apply()
            for index, parameter in enumerate(self.network.parameters()):
                parameter.data += 0.02 * normal(*parameter.shape, seed=index)
        self.adapter = ControlLoraAdapter(AdapterConfig.model_validate({"type": "control_lora", **settings}))
        self.adapter.attach(self.model, Draws(0))
        self.columns = self.adapter.columns
        if not start:
            self.columns.data += 0.05 * normal(*self.columns.shape, seed=5)
        self.latents = normal(2, CHANNELS, 3, 2, seed=1)
        self.timestep = torch.tensor([300.0, 700.0])
        self.embeds = normal(2, 48, 192, seed=2)
        self.control = normal(2, self.columns.shape[1], 3, 2, seed=3)

    def predict(self, control: Tensor | None, references: tuple[Tensor, ...] = ()) -> Tensor:
        extras = {} if control is None else {control_name(0): control}
        condition = Condition(self.embeds, references=references, extras=extras)
        with AdapterSet((self.adapter,)).reading(condition, num_noisy=6) as adapted:
            return self.model.get_noise_prediction(self.latents, self.timestep, adapted)

    def predict_wide(self, transformer: Any) -> Tensor:
        """What a transformer with a wide embedder makes of noise and control, joined as channels."""
        joined = torch.cat([self.latents, self.control], dim=1)
        wide = predict_wide(transformer, joined, self.timestep / 1000, self.embeds)
        return wide.transpose(1, 2).reshape(self.latents.shape)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def predict_wide(transformer: Any, joined: Tensor, sigma: Tensor, embeds: Tensor) -> Tensor:
    from diffusers import Flux2Pipeline

    return transformer(
        hidden_states=Flux2Pipeline._pack_latents(joined),
        encoder_hidden_states=embeds,
        timestep=sigma,
        guidance=None,
        img_ids=Flux2Pipeline._prepare_latent_ids(joined[:1]),
        txt_ids=Flux2Pipeline._prepare_text_ids(embeds[:1]),
        return_dict=False,
    )[0]


@pytest.mark.parametrize("qtype", [None, "qfloat8", "uint4"])
def test_at_the_start_it_changes_nothing(qtype: str | None) -> None:
    options = {} if qtype is None else {"quantize": True, "qtype": qtype}
    setup = Setup(start=True, model=tiny_model("transformer", **options))
    with torch.no_grad():
        assert torch.equal(setup.predict(setup.control), setup.predict(None))


def test_without_controls_it_is_off_and_with_zeros_it_adds_nothing() -> None:
    setup = Setup()
    with torch.no_grad():
        plain = predict_velocity(
            tiny_model("transformer").transformer, setup.latents, setup.timestep / 1000, setup.embeds, guidance=1.0
        )
        assert torch.equal(setup.predict(None), plain)
        assert torch.equal(setup.predict(torch.zeros_like(setup.control)), plain)
        assert not torch.allclose(setup.predict(setup.control), plain, atol=1e-2)
        with AdapterSet((setup.adapter,)).scaled(0.0):
            assert torch.equal(setup.predict(setup.control), plain)


@pytest.mark.parametrize("with_lora", [False, True], ids=["alone", "beside a LoRA"])
def test_it_is_a_linear_layer_with_twice_the_inputs(with_lora: bool) -> None:
    setup, wide = Setup(with_lora=with_lora), Setup(with_lora=with_lora, start=True).model
    embedder = wide.transformer.x_embedder
    replaced = nn.Linear(2 * CHANNELS, embedder.out_features, bias=False)
    replaced.weight = nn.Parameter(torch.cat([embedder.weight, setup.columns], dim=1))
    wide.transformer.x_embedder = replaced
    with torch.no_grad():
        assert (setup.predict(setup.control) - setup.predict_wide(wide.transformer)).abs().max() < 1e-5


@pytest.mark.parametrize("references_first", [False, True])
def test_only_noisy_tokens_get_the_controls(references_first: bool) -> None:
    setup = Setup()
    if references_first:  # as in the KV model
        setup.adapter._reading._noisy = lambda num_noisy, num_image: slice(num_image - num_noisy, num_image)
    seen: list[Tensor] = []
    setup.model.transformer.x_embedder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    references = (normal(2, CHANNELS, 2, 2, seed=4),)
    with torch.no_grad():
        setup.predict(None, references)
        setup.predict(setup.control, references)
    changed = (seen[1] - seen[0]).abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == ([False] * 4 + [True] * 6 if references_first else [True] * 6 + [False] * 4)


def test_only_the_columns_have_gradients_and_recomputing_keeps_them() -> None:
    found = []
    for checkpointing in (False, True):
        setup = Setup()
        if checkpointing:
            setup.model.enable_gradient_checkpointing()
            setup.model.transformer.train()
        setup.predict(setup.control).square().mean().backward()
        assert all(parameter.grad is None for parameter in setup.model.transformer.parameters())
        assert setup.columns.grad is not None and setup.columns.grad.abs().max() > 0
        found.append(setup.columns.grad)
    # Blocks that are recomputed have a backward pass of their own, which rounds otherwise.
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-4)


def test_its_gradient_is_that_of_a_finite_difference() -> None:
    setup = Setup()
    setup.model.transformer.double()
    setup.adapter.columns = setup.columns = nn.Parameter(setup.columns.double())
    setup.latents, setup.embeds, setup.control = (
        tensor.double() for tensor in (setup.latents, setup.embeds, setup.control)
    )
    direction = normal(*setup.columns.shape, seed=9).double()
    (gradient,) = torch.autograd.grad(setup.predict(setup.control).square().mean(), setup.columns)
    losses = []
    with torch.no_grad():
        for step in (1e-4, -1e-4):
            setup.columns.add_(step * direction)
            losses.append(setup.predict(setup.control).square().mean())
            setup.columns.sub_(step * direction)
    difference = (losses[0] - losses[1]) / 2e-4
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("with_inpainting", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_the_plan_counts_the_columns_that_there_are(count: int, with_inpainting: bool) -> None:
    setup = Setup(num_control_images=count, has_inpainting_input=with_inpainting)
    config = setup.adapter.config
    assert setup.columns.shape[1] == count * CHANNELS + 4 * with_inpainting
    assert config.choice.count(config, setup.model.card, None) == setup.columns.numel()


def test_flux_1_packs_two_by_two_cells_and_then_all_channels_of_each(tmp_path: Path) -> None:
    model = tiny_flux(make_tiny_flux(tmp_path), "transformer")
    adapter = ControlLoraAdapter(AdapterConfig.model_validate({"type": "control_lora"}))
    adapter.attach(model, Draws(0))
    adapter.columns.data += 0.05 * normal(*adapter.columns.shape, seed=5)
    embedder = model.transformer.x_embedder
    channels = embedder.in_features // 4
    latents, control = normal(1, channels, 4, 6, seed=1), normal(1, channels, 4, 6, seed=2)
    wide = nn.Linear(2 * embedder.in_features, embedder.out_features)
    wide.weight = nn.Parameter(torch.cat([embedder.weight, adapter.columns], dim=1))
    wide.bias = nn.Parameter(embedder.bias)
    seen: list[Tensor] = []
    embedder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    embeds = normal(1, 9, model.transformer.config.joint_attention_dim, seed=3)
    condition = Condition(embeds, extras={control_name(0): control})
    with torch.no_grad(), AdapterSet((adapter,)).reading(condition, num_noisy=6):
        model.get_noise_prediction(latents, torch.tensor([500.0]), condition)
        joined = wide(model.tokens_of(torch.cat([latents, control], dim=1)))
    assert (seen[0] - joined).abs().max() < 1e-5
    assert isinstance(model.transformer, FluxTransformer2DModel)


# Files


@pytest.fixture(params=[True], ids=[""])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Setup, Path, Path]:
    """A trained adapter and LoRA, and their files. The parameter: whether the LoRA is on the blocks only."""
    setup = Setup(with_lora=True, blocks_only=request.param)
    write_adapter(tmp_path / "a.safetensors", setup.adapter, dtype=torch.float32, metadata={"format": "pt"})
    assert setup.network is not None
    NetworkWeights(setup.network).save(tmp_path / "lora", dtype=torch.float32, metadata={"format": "pt"})
    return setup, tmp_path / "a.safetensors", tmp_path / "lora.safetensors"


def test_a_file_loads_back_in_full_and_in_half_precision(files: tuple[Setup, Path, Path], tmp_path: Path) -> None:
    setup, path, _ = files
    other = Setup(start=True)
    load_adapter(path, other.adapter)
    assert torch.equal(other.columns, setup.columns)
    write_adapter(tmp_path / "half.safetensors", setup.adapter, dtype=torch.bfloat16, metadata={})
    load_adapter(tmp_path / "half.safetensors", other.adapter)
    assert torch.equal(other.columns, setup.columns.bfloat16().float())
    assert load_file(tmp_path / "half.safetensors")["diffusion_model.img_in.reshape_weight"].tolist() == [192, 128]


def test_it_starts_from_the_columns_that_ai_toolkit_writes() -> None:
    setup, columns = Setup(start=True), normal(192, CHANNELS, seed=1)
    setup.adapter.load_state_dict({"transformer.x_embedder.weight": columns}, {}, source="file")
    assert torch.equal(setup.columns, columns)


def test_files_of_something_else_are_refused(files: tuple[Setup, Path, Path]) -> None:
    setup, _, lora = files
    tensors, metadata = setup.adapter.state_dict(), setup.adapter.metadata()
    a, b, shape = tensors
    own = tensors[a].clone()
    own[0, 0] = 1
    nan = tensors[b].clone()
    nan[0, 0] = torch.nan
    wrong: tuple[Any, ...] = (
        ({**tensors, "more": torch.zeros(1)}, {}, "unknown: more"),
        ({a: tensors[a], b: tensors[b]}, {}, f"missing: {shape}"),
        ({**tensors, a: tensors[a][:, :64]}, {}, "do not widen a layer of 64"),
        ({**tensors, a: tensors[a][:, :100]}, {}, r"shape \[192, 36\], and this job needs \[192, 64\]"),
        ({**tensors, a: own}, {}, "own input channels"),
        ({**tensors, b: nan}, {}, "NaN"),
        ({"transformer.x_embedder.weight": torch.zeros(3072, 64)}, {}, r"shape \[3072, 64\]"),
        (load_file(lora), {}, "pretrained_lora_path"),
        (tensors, {**metadata, "adapter_arch": "flux2"}, "arch flux2"),
        (tensors, {**metadata, "adapter_control_images": "2"}, "control images 2"),
        (tensors, {**metadata, "adapter_inpainting_input": "true"}, "inpainting input true"),
    )
    for content, header, what in wrong:
        with pytest.raises(UserError, match=what):
            setup.adapter.load_state_dict(content, header, source="file")


@pytest.mark.parametrize(
    ("files", "joined"),
    [(True, True), (True, False), (False, True)],
    indirect=["files"],
    ids=["one file", "two files", "one file with a LoRA on the embedder, too"],
)
def test_comfyui_gives_the_same_velocity(files: tuple[Setup, Path, Path], tmp_path: Path, joined: bool) -> None:
    setup, adapter, lora = files
    weights = to_single_file(tiny_model("transformer").transformer.state_dict())
    if joined:
        one = tmp_path / "joined.safetensors"
        assert main(["control", str(adapter), "--lora", str(lora), "--output", str(one)]) == 0
        loaded = [load_file(one)]
    else:
        loaded = [load_file(adapter), load_file(lora)]
    for tensors in loaded:
        weights, unused = apply_lora(weights, tensors)
        assert not unused
    # ComfyUI concatenates the latents of the control picture where the layer has grown to twice its inputs.
    assert weights["img_in.weight"].shape[1] == 2 * CHANNELS
    wide = wide_transformer(TINY / "transformer" / "config.json")
    assert to_single_file(wide.state_dict()).keys() == weights.keys()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "whole.safetensors")
    wide.load_state_dict(from_single_file(weights, wide))
    with torch.no_grad():
        assert (setup.predict(setup.control) - setup.predict_wide(wide)).abs().max() < 1e-5


def from_single_file(weights: dict[str, Tensor], like: Any) -> dict[str, Tensor]:
    """diffusers' own conversion of the released names."""
    from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers

    converted: dict[str, Tensor] = convert_flux2_transformer_checkpoint_to_diffusers(dict(weights))
    assert converted.keys() == like.state_dict().keys()
    return converted


def wide_transformer(config: Path) -> Flux2Transformer2DModel:
    settings = {name: value for name, value in json.loads(config.read_text()).items() if not name.startswith("_")}
    return Flux2Transformer2DModel(**{**settings, "in_channels": 2 * CHANNELS, "out_channels": CHANNELS})


@pytest.mark.parametrize("files", [True, False], indirect=True, ids=["blocks only", "all layers"])
def test_diffusers_loads_a_transformer_with_a_wide_embedder(files: tuple[Setup, Path, Path], tmp_path: Path) -> None:
    setup, adapter, lora = files
    base, folder = tmp_path / "base", tmp_path / "wide"
    tiny_model("transformer").transformer.save_pretrained(base)  # in fp32, so that nothing is rounded
    arguments = ["control", str(adapter), "--lora", str(lora), "--base", str(base)]
    assert main([*arguments, "--output", str(folder)]) == 0
    wide = Flux2Transformer2DModel.from_pretrained(folder)
    assert (wide.config.in_channels, wide.config.out_channels) == (2 * CHANNELS, CHANNELS)
    with torch.no_grad():
        assert (setup.predict(setup.control) - setup.predict_wide(wide)).abs().max() < 1e-5
    assert main([*arguments, "--output", str(folder)]) == 2, "it is there already"


def test_what_cannot_be_written_for_other_programs_is_refused(
    files: tuple[Setup, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, adapter, lora = files
    out = str(tmp_path / "out")
    wrong = (
        ([str(lora)], "is not the adapter file of a control_lora job"),
        ([str(tmp_path / "nothing.safetensors")], "no such file"),
        ([str(adapter), "--base", str(TINY)], "no config.json"),
        ([str(adapter), "--lora", str(adapter)], "reshape_weight"),
    )
    for arguments, what in wrong:
        assert main(["control", *arguments, "--output", out]) == 2
        assert what in capsys.readouterr().err
    assert not Path(out).exists()


def test_diffusers_pipeline_draws_the_same_with_the_wide_transformer(
    files: tuple[Setup, Path, Path], tmp_path: Path
) -> None:
    setup, adapter, lora = files
    base, folder = tmp_path / "base", tmp_path / "wide"
    tiny_model("transformer").transformer.save_pretrained(base)
    assert main(["control", str(adapter), "--lora", str(lora), "--base", str(base), "--output", str(folder)]) == 0
    setup.model.load("vae")
    control, embeds = normal(CHANNELS, 2, 2, seed=7), {text: normal(48, 192, seed=8) for text in ("a", "")}
    item = SampleItem("a", "", 32, 32, 0, 3.0, 2, 1.0)

    def draw(model: Flux2TinyModel, condition: SampleCondition) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        image = model.generate_single_image(model.get_generation_pipeline(), item, condition, generator)
        return torch.from_numpy(np.array(image)).float()

    condition = SampleCondition(embeds, extras={control_name(0): control})
    with torch.no_grad(), AdapterSet((setup.adapter,)).sampling(condition, "a", num_noisy=4) as adapted:
        ours = draw(setup.model, adapted)

    other = tiny_model("vae")
    other.transformer = Flux2Transformer2DModel.from_pretrained(folder)
    # As in docs/adapters.md: the noise has the first half of the channels, and the control is joined to each pass.
    other.transformer.register_to_config(in_channels=other.transformer.config.out_channels)
    tokens = control.flatten(1).T.unsqueeze(0)  # [1, S, C]

    def join(module: nn.Module, arguments: Any, named: dict[str, Any]) -> Any:
        named["hidden_states"] = torch.cat([named["hidden_states"], tokens], dim=2)
        return arguments, named

    other.transformer.register_forward_pre_hook(join, with_kwargs=True)
    with torch.no_grad():
        theirs = draw(other, SampleCondition(embeds))
    assert (ours - theirs).abs().max() <= 1
