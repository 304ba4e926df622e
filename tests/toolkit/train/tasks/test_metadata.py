"""toolkit.train.tasks.metadata"""

import json
from pathlib import Path

from toolkit.config import NetworkConfig
from toolkit.train.tasks.metadata import BaseWeights, file_metadata, published_name


def _metadata() -> dict[str, str]:
    return file_metadata(
        job_name="cat",
        step=30,
        epoch=2,
        base_model="an_arch",
        trigger_word="xyz",
        meta={"author": "me"},
        base_weights=BaseWeights("owner/model", "abc"),
        network=NetworkConfig.model_validate({"linear": 16, "linear_alpha": 8}),
        settings={"lr": 1e-4},
    )


def test_a_lora_file_says_what_it_is_and_where_it_comes_from() -> None:
    metadata = _metadata()
    assert json.loads(metadata["training_info"]) == {"step": 30, "epoch": 2}
    assert json.loads(metadata["base_model"]) == {"name": "owner/model", "fingerprint": "abc"}
    network = json.loads(metadata["network"])
    assert (network["rank"], network["alpha"], network["alpha_is_folded_in"]) == (16, 8, True)
    assert json.loads(metadata["training_settings"]) == {"lr": 1e-4}
    assert metadata["modelspec.architecture"] == "an_arch/lora"
    assert metadata["modelspec.trigger_phrase"] == "xyz"
    assert metadata["author"] == "me"


def test_nothing_in_the_header_makes_a_reader_scale_a_second_time() -> None:
    metadata = _metadata()
    assert "lora_adapter_metadata" not in metadata
    assert metadata["ss_network_alpha"] == metadata["ss_network_dim"]


def test_of_a_local_path_only_the_last_part_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    assert published_name(str(tmp_path / "my-model")) == "my-model"
    assert published_name("owner/model") == "owner/model"
