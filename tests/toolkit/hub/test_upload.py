"""Uploads to the hub, against a hub on this machine and the real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.tiny import problems_of, run_job, write_job
from tests.toolkit.hub.fake_hub import TOKEN, FakeHub, fake_hub
from toolkit.cards import find_cards
from toolkit.config import load_job
from toolkit.errors import JobError
from toolkit.hub.model_card import CardSample, model_card
from toolkit.output.events import read_events

UPLOAD = {"push_to_hub": True, "hf_repo_id": "me/foxes", "hf_private": True}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as made:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", made.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield made


def test_a_finished_run_is_uploaded_and_a_failed_upload_is_tried_again(tmp_path: Path, hub: FakeHub) -> None:
    sample = {"prompts": ["a fox"], "sample_every": 2}
    sections = {"train": {"steps": 2, "disable_sampling": False}, "trigger_word": "foxy", "sample": sample}
    path = write_job(tmp_path, name="foxes", save=UPLOAD, **sections)
    hub.refuses = 403
    assert run_job(path).status == "done", "a failed upload must not fail the run"
    folder = tmp_path / "output" / "foxes"
    warnings = [event["text"] for event in read_events(folder / "events.jsonl") if event["kind"] == "warning"]
    assert any("not uploaded: me/foxes" in text and "start the same job again" in text for text in warnings)

    hub.refuses = 0
    assert run_job(path).status == "done"
    (created, _) = hub.created
    assert (created["organization"], created["name"], created["visibility"]) == ("me", "foxes", "private")
    names = sorted(hub.files)
    assert names[:2] == ["README.md", "foxes.safetensors"]
    assert [name.endswith("_000000002_0.jpg") for name in names[2:]] == [True], "the samples of the last step only"
    assert hub.files["foxes.safetensors"] == (folder / "foxes.safetensors").read_bytes()
    card = hub.files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["instance_prompt"] == "foxy"
    assert head["widget"] == [{"text": "a fox", "output": {"url": names[2]}}]
    assert str(tmp_path) not in card
    assert not [name for name in folder.rglob("*") if name.is_file() and TOKEN.encode() in name.read_bytes()]


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        ({"push_to_hub": True}, "`push_to_hub` needs `hf_repo_id`"),
        ({"push_to_hub": True, "hf_repo_id": "no owner"}, "hf_repo_id"),
        ({"push_to_hub": True, "hf_repo_id": "me/it"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_an_upload_that_cannot_work_is_refused_before_the_run(tmp_path: Path, save: object, expected: str) -> None:
    assert any(expected in problem for problem in problems_of(tmp_path, save=save))


def test_a_missing_token_is_refused_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert any("no token to upload with" in problem for problem in problems_of(tmp_path, save=UPLOAD))


def test_a_repository_without_an_upload_is_told_to_have_no_effect(tmp_path: Path) -> None:
    notices = load_job(write_job(tmp_path, save={"hf_repo_id": "me/it"})).notices
    assert any("hf_repo_id" in notice and "push_to_hub" in notice for notice in notices)


@pytest.mark.parametrize("arch", ["flux2", "flux2_klein_4b", "flux2_klein_9b", "flux"])
def test_a_card_can_be_read_whatever_the_texts_in_it_are(tmp_path: Path, arch: str) -> None:
    prompt = "a: | <b> `x` ](evil)\n---\n# no heading"
    path = write_job(tmp_path, model={"arch": arch, "name_or_path": "owner/base"}, trigger_word="x: y")
    config = load_job(path).training()
    card = model_card("foxes", config, find_cards()[arch], "foxes.safetensors", [CardSample("samples/1.jpg", prompt)])
    head = yaml.safe_load(card.split("\n---\n")[0])
    assert head["base_model"] == "owner/base"
    assert head["license"]
    assert head["widget"][0]["text"] == prompt
    assert head["instance_prompt"] == "x: y"
    assert "\n# no heading" not in card.split("\n---\n", 1)[1]


def test_the_key_is_known(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="hf_repo"):
        load_job(write_job(tmp_path, save={"push_to_hub": True, "hf_repo": "me/it"}))
