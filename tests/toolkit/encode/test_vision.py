"""toolkit.encode.vision, vision_kinds and vision_model: the real classes of the library, tiny"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from tests.vision import ENCODERS, write_encoder
from toolkit.config import AdapterConfig
from toolkit.encode.vision import VisionEncoder, check_encoder, view_shape
from toolkit.encode.vision_kinds import KINDS
from toolkit.encode.vision_model import load_vision_model
from toolkit.errors import UserError

LAYERS = ("last_hidden_state", "penultimate_hidden_states", "image_embeds")
CPU = torch.device("cpu")


def _image(seed: int = 0, size: tuple[int, int] = (50, 40)) -> Image.Image:
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


@pytest.mark.parametrize("name", ENCODERS)
def test_the_shape_that_the_files_tell_is_that_of_the_features(name: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, name)
    for layer in LAYERS:
        encoder = VisionEncoder(str(folder), "auto", layer)
        facts = check_encoder(encoder)
        assert facts is not None
        features = load_vision_model(encoder, CPU).features(_image())
        assert tuple(features.shape) == (facts.shape.num_tokens, facts.shape.width)
        assert features.dtype == torch.float16 and features.isfinite().all()
    assert facts is not None
    assert facts.num_weights == sum(weight.numel() for weight in load_vision_model(encoder, CPU).model.parameters())


@pytest.mark.parametrize("name", ["siglip", "clip", "dinov2", "dinov3"])
def test_the_features_are_those_of_the_library_from_an_image_of_the_right_size(name: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, name)
    image = _image(size=(32, 32))
    pixels = torch.tensor(image.tobytes() and list(image.tobytes())).view(1, 32, 32, 3).permute(0, 3, 1, 2) / 255
    model = getattr(transformers, ENCODERS[name][0]).from_pretrained(folder).eval()
    with torch.no_grad():
        output = model(pixel_values=(pixels - 0.5) / 0.5, output_hidden_states=True)
    dropped = {"dinov2": 1, "dinov3": 5}.get(name, 0)
    expected = {
        "last_hidden_state": output.last_hidden_state[0, dropped:],
        "penultimate_hidden_states": output.hidden_states[-2][0, dropped:],
        "image_embeds": output.image_embeds if name == "clip" else output.pooler_output,
    }
    for layer, features in expected.items():
        found = load_vision_model(VisionEncoder(str(folder), "auto", layer), CPU).features(image)
        torch.testing.assert_close(found.float(), features, atol=2e-3, rtol=2e-3)


def test_a_naflex_encoder_sees_patches_as_its_own_processor_cuts_them(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, "siglip2 naflex")
    image = _image(size=(32, 32))  # 4 x 4 patches of 8 pixels
    own = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)(images=image, return_tensors="pt")
    model = load_vision_model(VisionEncoder(str(folder), "siglip2", "last_hidden_state"), CPU)
    with torch.no_grad():
        expected = model.model(**own).last_hidden_state[0]
    torch.testing.assert_close(model.features(image).float(), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("name", ["siglip", "clip"])
def test_images_of_other_sizes_are_prepared_as_by_the_librarys_processor(name: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, name, processor={"image_mean": [0.4, 0.5, 0.6], "resample": 2})
    model = load_vision_model(VisionEncoder(str(folder), "auto", "last_hidden_state"), CPU)
    kind = KINDS[name].processor
    size: dict[str, Any] = {"size": {"height": 32, "width": 32}}
    if name == "clip":
        size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    own = getattr(transformers, kind)(**size, image_mean=[0.4, 0.5, 0.6], image_std=[0.5] * 3, resample=2)
    image = _image(size=(70, 40))
    expected = own(images=image, return_tensors="pt")["pixel_values"]
    assert torch.equal(model.processor(images=image, return_tensors="pt")["pixel_values"], expected)


def test_the_defaults_are_those_of_the_library() -> None:
    configs = {
        "siglip": transformers.SiglipVisionConfig(),
        "siglip2": transformers.Siglip2VisionConfig(),
        "clip": transformers.CLIPVisionConfig(),
        "dinov2": transformers.Dinov2Config(),
        "dinov3": transformers.DINOv3ViTConfig(),
    }
    for key, kind in KINDS.items():
        assert configs[key].model_type in kind.model_types
        for name, value in kind.defaults.items():
            assert getattr(configs[key], name) == value, (key, name)


def test_what_a_configuration_leaves_out_is_the_librarys_default(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip", "vision_config": {"patch_size": 14}}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    encoder = VisionEncoder(str(tmp_path), "siglip2", "last_hidden_state")
    shape = encoder.shape(encoder.files())
    assert (shape.num_tokens, shape.width) == (16**2, 768)


def test_dinov3_sees_images_at_the_size_of_its_processor(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, "dinov3", processor={"size": {"height": 48, "width": 48}})
    encoder = VisionEncoder(str(folder), "dinov3", "last_hidden_state")
    assert encoder.shape(encoder.files()).num_tokens == 36
    assert len(load_vision_model(encoder, CPU).features(_image())) == 36


def test_dinov2_sees_the_middle_of_an_image_as_its_own_processor_cuts_it(tmp_path: Path) -> None:
    own = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
    folder = write_encoder(tmp_path, "dinov2", processor=own)
    model, image = load_vision_model(VisionEncoder(str(folder), "dinov2", "image_embeds"), CPU), _image(size=(70, 44))
    pixels = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)(image, return_tensors="pt")
    with torch.no_grad():
        expected = model.model(**pixels).pooler_output
    torch.testing.assert_close(model.features(image).float(), expected, atol=2e-3, rtol=2e-3)


def test_the_fingerprint_tells_encoders_and_layers_apart(tmp_path: Path) -> None:
    folders = [write_encoder(tmp_path / str(seed), "siglip", seed=seed) for seed in (0, 1)]
    again = write_encoder(tmp_path / "again", "siglip", seed=0)
    found = [view_shape(_adapter(folder, layer)) for folder in (*folders, again) for layer in LAYERS[:2]]
    fingerprints = [shape.encoder for shape in found if shape is not None]
    assert len(set(fingerprints[:4])) == 4
    assert fingerprints[:2] == fingerprints[4:]


def test_an_adapter_without_images_has_no_shape() -> None:
    assert view_shape(AdapterConfig.model_validate({"type": "mean_flow"})) is None


def _adapter(folder: Path, layer: str) -> AdapterConfig:
    options = {"type": "redux", "image_encoder_path": str(folder), "clip_layer": layer}
    return AdapterConfig.model_validate(options)


def _absent(folder: Path) -> dict[str, str]:
    return {"source": str(folder / "nowhere")}


def _of_text(folder: Path) -> dict[str, str]:
    (folder / "config.json").write_text('{"model_type": "t5"}')
    return {}


def _without_config(folder: Path) -> dict[str, str]:
    (folder / "config.json").unlink()
    return {}


def _no_json(folder: Path) -> dict[str, str]:
    (folder / "config.json").write_text("{")
    return {}


def _nonsense(folder: Path) -> dict[str, str]:
    (folder / "config.json").write_text('{"model_type": "siglip_vision_model", "patch_size": 0}')
    return {}


def _other_arch(folder: Path) -> dict[str, str]:
    return {"arch": "clip"}


def _no_head(folder: Path) -> dict[str, str]:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vision_use_head": False}))
    return {"layer": "image_embeds"}


def _torn(folder: Path) -> dict[str, str]:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    return {}


def _noise(folder: Path) -> dict[str, str]:
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    return {}


def _wider(folder: Path) -> dict[str, str]:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    return {}


def _pickled(folder: Path) -> dict[str, str]:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return {}


def _processor(folder: Path) -> dict[str, str]:
    (folder / "preprocessor_config.json").write_text("[]")
    return {}


def _single(folder: Path) -> dict[str, str]:
    (folder / "config.json").unlink()
    return {"source": str(folder / "model.safetensors")}


BAD: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {
    "an absent folder": (_absent, "nowhere"),
    "another kind of model": (_of_text, "model_type: t5"),
    "no configuration": (_without_config, "contains no image_encoder"),
    "a configuration that is not JSON": (_no_json, "config.json: cannot be read"),
    "a configuration of nonsense": (_nonsense, "config.json: the file is damaged"),
    "another arch": (_other_arch, "is a siglip encoder, not clip"),
    "an embedding where there is none": (_no_head, "has no embedding"),
    "torn weights": (_torn, "the file is incomplete"),
    "noise for weights": (_noise, "is not a safetensors file, or is damaged"),
    "weights of another width": (_wider, "weights of width 32"),
    "pickled weights": (_pickled, "is a pickle file"),
    "a damaged processor": (_processor, "preprocessor_config.json: the file is damaged"),
    "a single file": (_single, "is a single file"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_encoder_that_cannot_be_used_is_refused_before_weights_are_read(name: str, tmp_path: Path) -> None:
    damage, message = BAD[name]
    folder = write_encoder(tmp_path / "siglip", "siglip")
    options = {"source": str(folder), "arch": "auto", "layer": "last_hidden_state", **damage(folder)}
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        check_encoder(VisionEncoder(**options))


def test_weights_that_lack_a_layer_are_refused_when_they_are_loaded(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, "siglip")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(UserError, match=r"do not match its config\.json: 16 are missing"):
        load_vision_model(VisionEncoder(str(folder), "auto", "last_hidden_state"), CPU)
