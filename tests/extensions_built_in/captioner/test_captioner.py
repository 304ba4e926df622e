"""Captions are proposed by any model of transformers, go on after a kill, and are written when they are accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from extensions_built_in.captioner import captioner
from extensions_built_in.captioner.memory import memory_of
from extensions_built_in.captioner.writer import load_picture, load_writer
from jobs.job import Job
from toolkit.config import load_job
from toolkit.config.captioning.settings import CaptionConfig
from toolkit.data.captions.proposals import append_proposals, read_proposals
from toolkit.errors import JobError, UserError
from toolkit.output.events import read_events
from toolkit.plan.machine import named_card
from toolkit.runtime.stop import StopRequest

CPU = torch.device("cpu")
CARD = named_card(24)


def write(folder: Path, pictures: Path, model: Path | str, **caption: Any) -> Path:
    section = {"path_to_caption": str(pictures), "model_name_or_path": str(model), "max_new_tokens": 6, "dtype": "fp32"}
    process = {"type": "caption", "training_folder": str(folder / "output"), "caption": section | caption}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"job": "extension", "config": {"name": "words", "process": [process]}}))
    return path


def run_job(job: Path, stop: StopRequest | None = None) -> Any:
    return Job(load_job(job)).run(stop or StopRequest(announces=False))


def check(job: Path) -> Any:
    (checked,) = Job(load_job(job)).checks()
    return checked


def settings(pictures: Path, model: Path, **more: Any) -> CaptionConfig:
    given = {"path_to_caption": pictures, "model_name_or_path": str(model), "max_new_tokens": 6, "dtype": "fp32"}
    return CaptionConfig(**(given | more))


def texts(folder: Path) -> dict[str, str]:
    proposals = read_proposals(folder / "output" / "words" / "proposals.jsonl")
    return {name: proposal.text for name, proposal in proposals.items()}


@pytest.mark.parametrize("kind", ["blip", "llava", "qwen"])
def test_a_model_says_the_same_of_a_picture_each_time_and_sees_it(
    kind: str, request: pytest.FixtureRequest, pictures: Path
) -> None:
    writer = load_writer(model := request.getfixturevalue(kind), settings(pictures, model), CPU)
    images = [load_picture(pictures / name, most_px=768) for name in ("a.png", "b.png", "c.jpg")]
    said = [writer.caption(image) for image in images]
    assert said == [writer.caption(image) for image in images]
    assert all(said)
    if kind != "blip":  # with random weights it says the same of everything
        assert len(set(said)) > 1, "it does not look at the picture"
    assert not any("USER" in text or "\n" in text for text in said)


def test_the_memory_of_the_weights_is_known_before_they_are_loaded(tmp_path: Path, pictures: Path, llava: Path) -> None:
    memory = {q: memory_of(llava, settings(pictures, llava, quantize=q), device="cuda", machine=CARD) for q in (0, 1)}
    model = load_writer(llava, settings(pictures, llava), CPU).model
    assert memory[0].loaded_bytes == memory[0].stored_bytes == memory[1].loaded_bytes
    assert memory[0].loaded_bytes == sum(weight.nbytes for weight in model.parameters())
    assert memory[1].stored_bytes < memory[0].stored_bytes < memory[0].gpu_bytes
    job = load_job(write(tmp_path, pictures, llava))
    (here,), (small,) = Job(job).checks(), Job(job, vram_gb=0.5).checks()
    assert here.facts()["memory"]["fits"] and not here.problems
    assert "Set caption.quantize: true" in str(small.problems)


def test_quantized_layers_are_used(llava: Path, pictures: Path) -> None:
    writer = load_writer(llava, settings(pictures, llava, quantize=True), CPU)
    kinds = {type(layer).__name__ for layer in writer.model.modules()}
    assert "FrozenLinear" in kinds
    assert type(writer.model.get_output_embeddings()) is torch.nn.Linear
    assert isinstance(writer.caption(load_picture(pictures / "a.png", most_px=16)), str)


def test_a_picture_is_upright_flat_and_small(tmp_path: Path) -> None:
    image = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    found = load_picture(tmp_path / "a.png", most_px=50)
    assert (found.mode, found.size, found.getpixel((0, 0))) == ("RGB", (25, 50), (255, 255, 255))


def test_only_missing_captions_are_proposed_and_none_is_written(tmp_path: Path, pictures: Path, blip: Path) -> None:
    job = write(tmp_path, pictures, blip, prefix="[trigger], ")
    assert run_job(job).status == "done"
    assert list(texts(tmp_path)) == ["a.png", "c.jpg"]
    assert all(text.startswith("[trigger], ") for text in texts(tmp_path).values())
    assert sorted(path.name for path in pictures.glob("*.txt")) == ["b.txt"]
    events = list(read_events(tmp_path / "output" / "words" / "events.jsonl"))
    last = [event for event in events if event["kind"] == "progress"][-1]
    assert (last["stage"], last["total"]) == ("caption", 2)


def test_a_stopped_job_goes_on_and_accepting_writes_but_over_nobodys_edit(
    tmp_path: Path, pictures: Path, blip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest(announces=False)

    def stop_after_one(path: Path, proposals: Any) -> None:
        append_proposals(path, proposals)
        stop.request()

    job = write(tmp_path, pictures, blip, recaption=True)
    with monkeypatch.context() as patch:
        patch.setattr(captioner, "append_proposals", stop_after_one)
        assert run_job(job, stop=stop).status == "interrupted"
    first = texts(tmp_path)
    assert list(first) == ["a.png"]
    place = tmp_path / "output" / "words" / "proposals.jsonl"
    with place.open("ab") as file:
        file.write(b'{"image": "b.png", "te')  # killed while it wrote
    assert run_job(job).status == "done"
    assert list(texts(tmp_path)) == ["a.png", "b.png", "c.jpg"]
    assert texts(tmp_path)["a.png"] == first["a.png"]
    assert len(place.read_text().splitlines()) == 4, "nothing is proposed twice"

    monkeypatch.setattr(captioner, "load_writer", lambda *_: pytest.fail("no model is needed to write what there is"))
    (pictures / "c.txt").write_text(texts(tmp_path)["c.jpg"], encoding="utf-8")  # by hand, the same
    assert run_job(write(tmp_path, pictures, blip, recaption=True, accept=True)).status == "done"
    assert {path.stem: path.read_text() for path in pictures.glob("*.txt")} == {
        Path(name).stem: text for name, text in texts(tmp_path).items()
    }
    assert all(it.is_accepted for it in read_proposals(place).values())


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path, pictures: Path, blip: Path) -> None:
    (pictures / "bad.png").write_bytes(b"not a picture")
    (pictures / "d.png").write_bytes((pictures / "a.png").read_bytes())
    (pictures / "d.txt").write_bytes(b"\xff\xfe")
    job = write(tmp_path, pictures, blip)
    checked = check(job)
    assert [it.name for it in checked.wanted] == ["a.png", "c.jpg"]
    assert "warning: d.png is left out: its caption byte 0 (0xff) is not UTF-8" in checked.notices[0]
    assert "warning: bad.png is left out: it is not a JPEG" in checked.notices[1]


# bad input


def problem_of(job: Path) -> str:
    try:
        return str(check(job).refusal)
    except JobError as error:
        return str(error)


def test_no_such_folder_and_a_folder_without_pictures_are_named(tmp_path: Path, pictures: Path, blip: Path) -> None:
    assert "no folder" in problem_of(write(tmp_path, tmp_path / "none", blip))
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    shutil.copy(pictures / "a.png", tmp_path / "empty" / "inner")
    assert "`recursive: true`" in problem_of(write(tmp_path, tmp_path / "empty", blip))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no")
    assert "none of the pictures" in problem_of(write(tmp_path, tmp_path / "bad", blip))


def remote(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "my_vlm", "auto_map": {"AutoModel": "x.Y"}}))


def unknown(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "my_vlm"}))


def damaged(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_processor(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (remote, "trust_remote_code"),
        (unknown, 'does not support "my_vlm"'),
        (damaged, "config.json: cannot be read"),
        (no_processor, "no files of an image processor"),
        (no_tokenizer, "no files of a tokenizer"),
        (no_weights, "no weights (*.safetensors). Its .bin files"),
        (shutil.rmtree, "neither an existing path nor a hub id"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_it_is_loaded(
    spoil: Any, says: str, tmp_path: Path, pictures: Path, blip: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(blip, model)
    spoil(model)
    assert says in problem_of(write(tmp_path, pictures, model))


def test_weights_that_do_not_match_are_refused(tmp_path: Path, pictures: Path, blip: Path, llava: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(blip, model)
    shutil.copy(llava / "model.safetensors", model)
    with pytest.raises(UserError, match="do not match its config"):
        load_writer(model, settings(pictures, model), CPU)
