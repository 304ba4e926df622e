"""toolkit.weights.hub, with a hub on this machine"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolkit.weights import fake_hub

UNREACHABLE = "http://127.0.0.1:9"

WITHOUT_TOKEN = {
    "owner/gated": r"model\.x: owner/gated is gated.*Accept its licence at https://huggingface\.co/owner/gated.*HF_TOKEN",
    "owner/nothing": r"the hub has no repository owner/nothing.*Check the spelling",
    "owner/private": r"the hub has no repository owner/private, or it is private and HF_TOKEN is not set",
    "owner/forbidden": r"denies access to owner/forbidden \(403\).*Create a token",
    "owner/busy": r"too many requests\. Wait",
    "owner/broken": r"owner/broken cannot be downloaded.*Try again later, or give a local folder",
    "owner/huge": r"needs 1862645149\.2 GB, but the drive of .* GB free\. Free some space, or set HF_HOME",
    "owner/diffusers/none.safetensors": r"owner/diffusers has no file none\.safetensors\. It has: ",
    "owner/encoder/none": r"owner/encoder has no file none",
    "nowhere": r"model\.x: no such file or folder: nowhere",
    "owner/not:good": r"neither a local path nor a hub id",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    cache = tmp_path_factory.mktemp("cache")
    with fake_hub.running() as endpoint:
        cases = [(place, "vae") for place in WITHOUT_TOKEN]
        found = dict(zip(WITHOUT_TOKEN, fake_hub.find_all(endpoint, cases, cache), strict=True))
    yield found


@pytest.mark.parametrize("place", WITHOUT_TOKEN)
def test_what_is_out_of_reach_is_explained(place: str, answers: dict[str, str]) -> None:
    assert re.search(WITHOUT_TOKEN[place], answers[place]), answers[place]


def test_only_what_the_component_needs_is_downloaded_and_then_found_offline(tmp_path: Path) -> None:
    cases = [
        ("owner/diffusers", "vae"),
        ("owner/encoder", "text_encoder"),
        ("owner/encoder", "tokenizer"),
        ("owner/diffusers/big.safetensors", "transformer"),
    ]
    with fake_hub.running() as endpoint:
        first = fake_hub.find_all(endpoint, cases, tmp_path)
    assert first[0] == "found config.json diffusion_pytorch_model.safetensors weights"
    assert "consolidated" not in first[1]
    assert first[1].endswith("one two")
    assert first[3] == "found x"
    assert not list(tmp_path.rglob("*.bin"))
    assert fake_hub.find_all(UNREACHABLE, cases, tmp_path) == first
    assert fake_hub.find_all(UNREACHABLE, cases, tmp_path, HF_HUB_OFFLINE="1") == first


def test_a_bad_token_is_distinguished_from_a_missing_repository(tmp_path: Path) -> None:
    with fake_hub.running() as endpoint:
        (answer,) = fake_hub.find_all(endpoint, [("owner/private", "vae")], tmp_path, HF_TOKEN="hf_bad")
    assert "rejects the token in HF_TOKEN" in answer
    assert "hf_bad" not in answer


def test_a_missing_network_is_reported_with_what_to_do(tmp_path: Path) -> None:
    (answer,) = fake_hub.find_all(UNREACHABLE, [("owner/diffusers", "vae")], tmp_path)
    assert "cannot be downloaded" in answer
    assert "Check the network" in answer
    (answer,) = fake_hub.find_all(UNREACHABLE, [("owner/diffusers", "vae")], tmp_path, HF_HUB_OFFLINE="1")
    assert "Unset HF_HUB_OFFLINE" in answer


def _reach(endpoint: str, cases: list[tuple[str, str]], cache: Path, **environment: str) -> list[str]:
    return fake_hub.find_all(endpoint, cases, cache, functions=["reach_component"], **environment)


def test_access_is_asked_for_once_per_repository_and_nothing_is_downloaded(tmp_path: Path) -> None:
    cases = [("owner/diffusers", "vae"), ("owner/diffusers", "transformer"), ("owner/encoder", "text_encoder")]
    cases += [("owner/gated", "vae"), ("owner/gated", "transformer"), ("owner/diffusers/big.safetensors", "vae")]
    with fake_hub.running() as endpoint:
        before = len(fake_hub.REQUESTS)
        answers = _reach(endpoint, cases, tmp_path, HF_TOKEN=fake_hub.GOOD_TOKEN)
        asked = [path.partition("?")[0] for path in fake_hub.REQUESTS[before:] if path.startswith("/api/models/")]
    assert [answer for answer in answers if answer != "found"] == [answers[4]]
    assert "owner/gated contains no transformer" in answers[4]
    about = {repo: f"/api/models/{repo}" for repo in ("owner/diffusers", "owner/encoder", "owner/gated")}
    assert asked == [*about.values(), f"{about['owner/gated']}/auth-check"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name.endswith((".json", "tensors"))]


NO_ACCESS = {
    "": {
        "owner/gated": r"model\.x: owner/gated is gated.*Accept its licence.*HF_TOKEN",
        "owner/nothing": r"the hub has no repository owner/nothing",
    },
    "hf_bad": {
        "owner/gated": r"owner/gated is gated, and this account has no access",
        "owner/private": r"rejects the token in HF_TOKEN",
    },
}


@pytest.mark.parametrize("token", NO_ACCESS)
def test_no_access_is_known_before_anything_is_downloaded(token: str, tmp_path: Path) -> None:
    messages = NO_ACCESS[token]
    with fake_hub.running() as endpoint:
        answers = _reach(endpoint, [(place, "vae") for place in messages], tmp_path, HF_TOKEN=token)
    for message, answer in zip(messages.values(), answers, strict=True):
        assert re.search(message, answer), answer


def test_what_is_in_the_cache_needs_neither_network_nor_access(tmp_path: Path) -> None:
    cases = [("owner/gated", "vae"), ("owner/encoder", "text_encoder"), ("owner/diffusers/big.safetensors", "vae")]
    not_there = [("owner/gated", "transformer"), ("owner/huge", "vae")]
    with fake_hub.running() as endpoint:
        assert "holds" not in "".join(fake_hub.find_all(endpoint, cases, tmp_path, HF_TOKEN=fake_hub.GOOD_TOKEN))
        assert _reach(endpoint, cases, tmp_path) == ["found"] * 3
    (shard,) = tmp_path.rglob("model-00002-of-00002.safetensors")
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        answers = _reach(UNREACHABLE, [*cases, *not_there], tmp_path, **environment)
        assert answers[:3] == ["found"] * 3
        assert all("cannot be downloaded" in answer for answer in answers[3:])
    shard.unlink()
    (answer,) = _reach(UNREACHABLE, [("owner/encoder", "text_encoder")], tmp_path)
    assert "cannot be downloaded" in answer


BOTH = ("reach_component", "find_component")
SHARD, INDEX = "owner/encoder/model-00001-of-00002.safetensors", "owner/encoder/model.safetensors.index.json"


@pytest.mark.parametrize("place", [SHARD, pytest.param(INDEX, marks=pytest.mark.torture)], ids=["shard", "index"])
def test_a_shard_or_an_index_on_the_hub_brings_its_siblings_and_their_configuration(place: str, tmp_path: Path) -> None:
    cases = [(place, "text_encoder")]
    with fake_hub.running() as endpoint:
        reached, answer = fake_hub.find_all(endpoint, cases, tmp_path, functions=BOTH)
    assert reached == "found"
    assert answer.startswith("found config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors")
    assert answer.endswith("one two")
    assert "consolidated" not in answer
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert fake_hub.find_all(UNREACHABLE, cases, tmp_path, functions=BOTH, **environment) == ["found", answer]
    next(tmp_path.rglob("model-00002-of-00002.safetensors")).unlink()
    (answer,) = _reach(UNREACHABLE, cases, tmp_path)
    assert "cannot be downloaded" in answer


def test_a_shard_whose_siblings_are_not_in_the_repository_is_reported(tmp_path: Path) -> None:
    cases = [("owner/torn/model-00001-of-00002.safetensors", "text_encoder")]
    with fake_hub.running() as endpoint:
        answers = fake_hub.find_all(endpoint, cases, tmp_path, functions=BOTH)
    assert all("model-00002-of-00002.safetensors is not beside it" in answer for answer in answers)


def test_the_tokenizer_beside_an_index_is_found_without_the_weights(tmp_path: Path) -> None:
    with fake_hub.running() as endpoint:
        (answer,) = fake_hub.find_all(endpoint, [(INDEX, "tokenizer")], tmp_path)
    assert answer.startswith("found config.json model.safetensors.index.json tokenizer.json")
