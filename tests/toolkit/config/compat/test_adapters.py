"""Every key of ai-toolkit's `adapter` section is acted upon, refused with a reason, or named in a notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.toolkit.config.conftest import Check, Problems, Tree
from toolkit.adapters.choices import ADAPTERS
from toolkit.config.adapter import AdapterConfig
from toolkit.config.compat.adapters import REFUSED_TYPES
from toolkit.config.compat.ignored_keys import ignored_in

# The keys of ai-toolkit's section with their defaults.
KEYS: dict[str, Any] = {
    "type": "t2i",
    "in_channels": 3,
    "channels": [320, 640, 1280, 1280],
    "num_res_blocks": 2,
    "downscale_factor": 8,
    "adapter_type": "full_adapter",
    "image_dir": None,
    "test_img_path": None,
    "train": False,
    "image_encoder_path": None,
    "name_or_path": None,
    "num_tokens": None,
    "train_image_encoder": False,
    "train_only_image_encoder": False,
    "train_only_image_encoder_positional_embedding": False,
    "image_encoder_arch": "clip",
    "safe_reducer_channels": 512,
    "safe_channels": 2048,
    "safe_tokens": 8,
    "quad_image": False,
    "trigger": "tri993r",
    "trigger_class_name": None,
    "class_names": [],
    "clip_layer": None,
    "text_encoder_path": None,
    "text_encoder_arch": "clip",
    "train_scaler": False,
    "scaler_lr": None,
    "merge_scaler": False,
    "head_dim": 1024,
    "num_heads": 1,
    "ilora_down": True,
    "ilora_mid": True,
    "ilora_up": True,
    "pixtral_max_image_size": 512,
    "pixtral_random_image_size": False,
    "flux_only_double": False,
    "conv_pooling": False,
    "conv_pooling_stacks": 1,
    "sparse_autoencoder_dim": None,
    "num_cloned_blocks": 0,
    "quantize_llm": False,
    "lora_config": None,
    "num_control_images": 1,
    "control_image_dropout": 0.0,
    "has_inpainting_input": False,
    "invert_inpaint_mask_chance": 0.0,
    "subpixel_downscale_factor": 8,
    "i2v_do_start_frame": False,
}


def view_adapter(**settings: Any) -> dict[str, Any]:
    return {"type": "vision_direct", "image_encoder_path": "owner/encoder", **settings}


def test_a_section_with_all_of_ai_toolkits_defaults_is_read_without_a_word(process: Tree, check: Check) -> None:
    process["adapter"] = {**KEYS, **view_adapter(train=True)}
    job = check()
    assert [notice for notice in job.notices if "adapter" in notice] == []
    (adapter,) = job.config.process[0].adapter
    assert adapter.blocks == "all" and adapter.image_encoder_arch == "clip"


def test_every_key_is_known() -> None:
    acting = {*AdapterConfig.model_fields, "flux_only_double"}
    assert set(KEYS) - acting - set(ignored_in(AdapterConfig)) == set()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"train": False}, "a job cannot keep one frozen"),
        ({"train_image_encoder": True}, "vision encoders stay frozen"),
        ({"train_only_image_encoder": True}, "vision encoders stay frozen"),
        ({"train_only_image_encoder_positional_embedding": True}, "vision encoders stay frozen"),
        ({"train_scaler": True}, "adds nothing that its value weights"),
        ({"conv_pooling": True}, "set `num_tokens`"),
        ({"sparse_autoencoder_dim": 64}, "reads the features directly"),
        ({"quad_image": True}, "not in four quarters"),
        ({"image_encoder_arch": "pixtral"}, "not supported yet"),
    ],
)
def test_what_would_train_otherwise_is_refused_with_the_reason(
    settings: dict[str, Any], reason: str, process: Tree, problems: Problems
) -> None:
    process["adapter"] = view_adapter(**settings)
    assert reason in problems()[f"adapter.{next(iter(settings))}"]


@pytest.mark.parametrize(
    "settings", [{"scaler_lr": 1e-3}, {"conv_pooling_stacks": 2}, {"pixtral_max_image_size": 99}, {"head_dim": 8}]
)
def test_what_only_other_settings_read_is_named_in_a_notice(
    settings: dict[str, Any], process: Tree, check: Check
) -> None:
    process["adapter"] = view_adapter(**settings)
    assert any(f"adapter.{next(iter(settings))}: ignored: used only" in notice for notice in check().notices)


def test_flux_only_double_means_the_double_blocks(process: Tree, check: Check, problems: Problems) -> None:
    process["adapter"] = [view_adapter(flux_only_double=True)]
    assert check().config.process[0].adapter[0].blocks == "double"
    process["adapter"] = [view_adapter(flux_only_double=True, blocks="all")]
    assert "keep one" in problems()["adapter[0].flux_only_double"]


def test_several_images_for_samples_may_stand_in_one_text(tmp_path: Path, process: Tree, check: Check) -> None:
    names = [tmp_path / name for name in ("a.png", "b.png", "with, comma.png")]
    for path in names:
        Image.new("RGB", (8, 8)).save(path)
    process["adapter"] = view_adapter(test_img_path=f"{names[0]}, {names[1]}")
    assert check().config.process[0].adapter[0].test_img_path == tuple(names[:2])
    process["adapter"] = view_adapter(test_img_path=str(names[2]))
    assert check().config.process[0].adapter[0].test_img_path == (names[2],)


def test_a_rate_of_its_own_is_refused(process: Tree, problems: Problems) -> None:
    process["adapter"] = view_adapter()
    process["train"]["adapter_lr"] = 1e-3
    assert "use the same learning rate" in problems()["train.adapter_lr"]


@pytest.mark.parametrize("name", REFUSED_TYPES)
def test_other_kinds_are_refused_with_the_reason(name: str, process: Tree, problems: Problems) -> None:
    process["adapter"] = {"type": name}
    assert problems() == {"adapter.type": f'"{name}" is not supported: {REFUSED_TYPES[name]}'}
    docs = (Path(__file__).resolve().parents[4] / "docs" / "adapters.md").read_text(encoding="utf-8")
    assert f"`{name}`" in docs and name not in ADAPTERS
