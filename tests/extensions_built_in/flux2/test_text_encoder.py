"""extensions_built_in.diffusion_models.flux2.text_encoder"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Mistral3ForConditionalGeneration, Qwen3ForCausalLM

from extensions_built_in.diffusion_models.flux2.text_encoder import text_recipe
from tests.tiny import TINY
from tests.tiny_text import write_tiny_mistral
from toolkit.errors import UserError
from toolkit.weights.layouts import ComponentFiles, find_component
from toolkit.weights.tensor_index import index_tensors

KLEIN = TINY / "text_encoder"


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_mistral(tmp_path_factory.mktemp("dev")) / "text_encoder"


def _load(folder: Path, kind: str = "mistral", num_layers: int = 3, **options: Any) -> nn.Module:
    files = ComponentFiles(folder, folder, tuple(sorted(folder.glob("*.safetensors"))))
    recipe = text_recipe(files, kind, num_layers=num_layers, hidden_size=options.pop("hidden_size", None))
    return recipe.load(**{"dtype": torch.float32, "device": torch.device("cpu"), **options})


def _hidden_states(model: Any) -> tuple[Tensor, ...]:
    ids = torch.arange(20, 60).unsqueeze(0)
    mask = (torch.arange(40) < 30).long().unsqueeze(0)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return tuple(out.hidden_states)


@pytest.mark.parametrize("num_layers", [1, 3, 4])
def test_the_first_layers_of_mistral_3_alone_give_the_same_hidden_states_bit_for_bit(
    mistral: Path, num_layers: int
) -> None:
    whole = Mistral3ForConditionalGeneration.from_pretrained(mistral, dtype=torch.float32).eval()
    ours, theirs = _hidden_states(_load(mistral, num_layers=num_layers)), _hidden_states(whole.model.language_model)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))
    assert len(ours) == num_layers + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_layers_of_qwen_3_alone_give_the_same_hidden_states_bit_for_bit(dtype: torch.dtype) -> None:
    whole = Qwen3ForCausalLM.from_pretrained(KLEIN, dtype=dtype).eval()
    ours, theirs = _hidden_states(_load(KLEIN, "qwen3", 27, dtype=dtype)), _hidden_states(whole.model)
    assert len(theirs) == len(ours) + 1
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))


def test_what_is_not_used_is_not_there(mistral: Path) -> None:
    model = _load(mistral)
    names = [name for name, _ in model.named_parameters()]
    assert {".".join(name.split(".")[:2]) for name in names} == {
        "embed_tokens.weight",
        *(f"layers.{i}" for i in range(3)),
    }
    assert not any(parameter.is_meta or parameter.requires_grad for parameter in model.parameters())


LAYOUTS: dict[str, Callable[[str], str]] = {
    "transformers before 4.52": lambda name: f"language_model.model.{name}",
    "transformers since": lambda name: f"model.language_model.{name}",
    "causal model": lambda name: f"model.{name}",
    "bare": lambda name: name,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_naming_of_the_weights_is_read_and_only_the_used_ones_need_exist(
    mistral: Path, tmp_path: Path, layout: str
) -> None:
    expected = _load(mistral).state_dict()
    shutil.copy(mistral / "config.json", tmp_path)
    save_file({LAYOUTS[layout](name): tensor for name, tensor in expected.items()}, tmp_path / "model.safetensors")
    loaded = _load(tmp_path).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_the_right_kind_in_the_wrong_size_is_refused_before_it_is_read() -> None:
    with pytest.raises(UserError, match=r"of width 64, but this model reads width 4096"):
        _load(KLEIN, "qwen3", 27, hidden_size=4096)
    _load(KLEIN, "qwen3", 27, hidden_size=64)


def test_shards_are_read_together(mistral: Path, tmp_path: Path) -> None:
    tensors = load_file(mistral / "model.safetensors")
    shutil.copy(mistral / "config.json", tmp_path)
    names = sorted(tensors)
    for index in range(3):
        save_file({name: tensors[name] for name in names[index::3]}, tmp_path / f"model-{index + 1}-of-3.safetensors")
    one, other = _hidden_states(_load(tmp_path)), _hidden_states(_load(mistral))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("named", ["model-00002-of-00003.safetensors", "model.safetensors.index.json", ""])
@pytest.mark.parametrize("has_config", [True, False])
def test_any_shard_the_index_or_the_folder_stands_for_the_whole_encoder(
    tmp_path: Path, named: str, has_config: bool
) -> None:
    weights = {name: t.clone() for name, t in load_file(KLEIN / "model.safetensors").items()}
    names = sorted(weights)
    where: dict[str, Any] = {}
    for index in range(3):
        file = f"model-{index + 1:05d}-of-00003.safetensors"
        save_file({name: weights[name] for name in names[index::3]}, tmp_path / file)
        where |= dict.fromkeys(names[index::3], file)
    if named.endswith("json"):
        (tmp_path / named).write_text(json.dumps({"weight_map": where}))
    if has_config:
        shutil.copy(KLEIN / "config.json", tmp_path)
    files = find_component(str(tmp_path / named), "text_encoder", single_files=("qwen.safetensors",), setting="here")
    assert len(files.weights) == 3
    assert files.folder == (tmp_path if has_config else None)
    entries = index_tensors(files.weights).entries
    assert entries.keys() == weights.keys()


def test_a_shard_whose_siblings_are_missing_names_them(tmp_path: Path) -> None:
    shutil.copy(KLEIN / "model.safetensors", tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(
        UserError, match=r"one of 2 files of a model, and model-00002-of-00002\.safetensors is not beside it"
    ):
        find_component(str(tmp_path / "model-00001-of-00002.safetensors"), "text_encoder", setting="here")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("other kind", r"`qwen3`, but this model was trained with `mistral`"),
        ("too shallow", r"of 2 layers, but this model reads layer 3"),
        ("no config", r"no readable config\.json"),
        ("missing weights", r"do not match the text encoder \(mistral\)\. 9 missing: layers\.2"),
        ("truncated", r"cannot be read as safetensors"),
        ("other shapes", r"layers\.0\.mlp\.gate_proj\.weight is \[48, 32\] instead of \[64, 32\]"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_explained(mistral: Path, tmp_path: Path, damage: str, message: str) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(KLEIN if damage == "other kind" else mistral, folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "no config":
        config.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "missing weights":
        save_file({name: t for name, t in load_file(weights).items() if "layers.2." not in name}, weights)
    elif damage in ("too shallow", "other shapes"):
        values = json.loads(config.read_text())
        values["text_config"] |= {"num_hidden_layers": 2} if damage == "too shallow" else {"intermediate_size": 64}
        config.write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        _load(folder)
