"""toolkit.train.tasks.twin: samples on other weights than those that are trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from tests.drawing import psnr
from tests.tiny import TINY, losses, problems_of, run_job, tiny_config, tiny_model, write_job
from toolkit.config import NetworkConfig, TrainConfig
from toolkit.networks.network import Network
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.train.learner import Learner, build_learner
from toolkit.train.tasks.sample_info import read_info
from toolkit.train.tasks.twin import Twin
from toolkit.train.trainable import NetworkWeights

PROMPT = "a red circle"


def other_weights(folder: Path) -> Path:
    """The tiny model with other weights in its transformer."""
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("text_encoder", "tokenizer", "vae"))
    (file,) = (folder / "transformer").glob("*.safetensors")
    generator = torch.Generator().manual_seed(0)
    tensors = load_file(file)
    changed = {n: t + 0.05 * t.float().std() * torch.randn(t.shape, generator=generator) for n, t in tensors.items()}
    save_file({name: tensor.to(tensors[name].dtype) for name, tensor in changed.items()}, file)
    return folder


@pytest.mark.filterwarnings("ignore:Already found a .peft_config")
def test_samples_on_other_weights_are_what_diffusers_draws_and_change_nothing_in_the_training(tmp_path: Path) -> None:
    """Two whole jobs: nothing else shows that a preview leaves a training as it is."""
    twin = other_weights(tmp_path / "twin")
    sample: dict[str, Any] = {
        "prompts": [PROMPT, "a green square"],
        "batch_size": 2,
        "seed": 5,
        "format": "png",
        "guidance_scale": 1,
        "sample_steps": 4,
    }
    sections: dict[str, Any] = {"train": {"steps": 2, "lr": 0.03}, "save": {"save_every": 0}}
    with_preview = {"train": {**sections["train"], "disable_sampling": False}, "sample": {**sample, "model": str(twin)}}
    assert run_job(write_job(tmp_path, name="plain", **sections)).status == "done"
    assert run_job(write_job(tmp_path, name="preview", **sections | with_preview)).status == "done"
    plain, preview = (tmp_path / "output" / name for name in ("plain", "preview"))
    assert losses(plain) == losses(preview)
    lora = preview / "preview.safetensors"
    trained, same = load_file(plain / "plain.safetensors"), load_file(lora)
    assert trained.keys() == same.keys() and all(torch.equal(trained[key], same[key]) for key in trained)

    pipeline = Flux2KleinPipeline.from_pretrained(TINY, dtype=torch.float32)
    draw = {"prompt": PROMPT, "width": 32, "height": 32, "num_inference_steps": 4, "max_sequence_length": 48}
    pipeline.set_progress_bar_config(disable=True)
    (file,) = (twin / "transformer").glob("*.safetensors")
    pipeline.transformer.load_state_dict(load_file(file))
    pictures = []
    for strength in (0.0, 1.0):
        if strength:
            pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name)
            pipeline.fuse_lora()
        seed = torch.Generator().manual_seed(5)
        pictures.append(pipeline(**draw, guidance_scale=1.0, generator=seed).images[0])
    first, last = sorted((preview / "samples").glob("*_0.png"))
    for path, picture in zip((first, last), pictures, strict=True):
        with Image.open(path) as ours:
            assert psnr(picture, ours) >= 40
            assert json.loads(read_info(ours)["base_model"])["name"] == "twin"
    assert psnr(*pictures) < 35, "the network changed something"


@pytest.fixture(scope="module")
def learner() -> Learner:
    """A network on the tiny model."""
    model, draws = tiny_model("transformer"), Draws(3)
    network = Network(model, NetworkConfig.model_validate({"type": "dora", "linear": 2}), draws)
    network.apply()
    train = TrainConfig.model_validate({"dtype": "fp32"})
    return build_learner(model, NetworkWeights(network), train, draws=draws, ranks=OneProcess())


@pytest.mark.parametrize("stays", [False, True])
def test_each_round_has_the_weights_of_now_and_the_model_is_freed_unless_it_stays(
    learner: Learner, stays: bool
) -> None:
    twin = Twin(Flux2TinyModel(tiny_config(), device=torch.device("cpu"), dtype=torch.float32), stays=stays)
    before, seen = torch.get_rng_state(), []
    for number in (1.0, 2.0):
        for _, weight in learner.weights.named_parameters():
            weight.data.fill_(number)

        def look(copy: NetworkWeights) -> None:
            own = [weight for _, weight in copy.named_parameters()]
            assert own and not {id(one) for one in own} & {id(one) for _, one in learner.weights.named_parameters()}
            seen.append({value for one in own for value in one.detach().unique().tolist()})
            assert twin.model.transformer is not learner.model.transformer

        twin.draw(learner, look)
        assert (twin.model.transformer is not None) == stays
    assert seen == [{1.0}, {2.0}]
    assert torch.equal(torch.get_rng_state(), before), "a preview draws no numbers of the training's"


def test_weights_with_other_layers_are_named_by_the_check(tmp_path: Path) -> None:
    twin = other_weights(tmp_path / "twin")
    (file,) = (twin / "transformer").glob("*.safetensors")
    config = json.loads((twin / "transformer" / "config.json").read_text())
    tensors = {name: tensor for name, tensor in load_file(file).items() if "single_transformer_blocks.0." in name}
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("single_transformer")}
    save_file(kept | tensors, file)
    (twin / "transformer" / "config.json").write_text(json.dumps(config | {"num_single_layers": 1}))
    sample = {"prompts": [PROMPT], "model": str(twin)}
    (problem,) = problems_of(tmp_path, sample=sample, train={"disable_sampling": False})
    assert f"sample.model: {twin} does not have the layers of {TINY}: single_transformer_blocks.1." in problem


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"sample": {"model": "distilled"}}, "sample.model: FLUX.2 tiny (demo) has no `distilled`"),
        ({"sample": {"model": str(TINY)}}, f"sample.model: {TINY} is the model being trained"),
        (
            {"sample": {"model": "nowhere"}},
            '"nowhere" is neither an existing path nor a hub id such as owner/name, nor',
        ),
        ({"sample": {"model": "black-forest-labs/FLUX.2-klein-4B"}}, "is FLUX.2 [klein] base 4B, and a network for"),
        (
            {"sample": {"model": "some/weights"}, "network": None, "train": {"full_finetune": True}},
            "sample.model: only a network can be put on other weights, in one piece, and the job has `train.full_fin",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    train = {"disable_sampling": False, **sections.pop("train", {})}
    sample = {"prompts": [PROMPT], **sections.pop("sample")}
    assert any(message in problem for problem in problems_of(tmp_path, sample=sample, train=train, **sections))
