"""toolkit.train.scores: real encoders of the library, tiny"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from torch.nn.functional import cosine_similarity, normalize

from tests.tiny import StopAfter, checked_of, losses, problems_of, run_job, write_job
from tests.vision import write_encoder, write_tokenizer
from toolkit.config import SampleItem
from toolkit.data.examples import Example, ViewImage
from toolkit.encode import vision
from toolkit.encode.vision import SCORE_WITH, VisionEncoder, check_encoder
from toolkit.errors import UserError
from toolkit.files import sha256_file
from toolkit.output.events import EventLog, read_events
from toolkit.output.figures import CurveReader
from toolkit.report.charts import charts
from toolkit.runtime.progress import Progress
from toolkit.runtime.stop import StopRequest
from toolkit.train.recorder import Recorder
from toolkit.train.scores.of_run import Scoring
from toolkit.train.scores.scorer import MOST_IMAGES, Scorer, images_to_compare
from toolkit.train.scores.text_side import embed_texts
from toolkit.train.stages import Stages
from toolkit.train.tasks.sample_info import item_info
from toolkit.train.tasks.sampling import Sample, save_image
from toolkit.weights.tensor_files import read_tensors

CPU = torch.device("cpu")


def _encoder(folder: Path) -> VisionEncoder:
    return VisionEncoder(str(folder), "auto", "image_embeds", SCORE_WITH)


def _picture(seed: int) -> Image.Image:
    pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def _sample(folder: Path, seed: int, *, prompt: str, step: int, index: int = 0, drawn_with: int = 1) -> Sample:
    item = SampleItem(prompt, "", 32, 32, drawn_with, 4.0, 2, 1.0)
    path = folder / f"1__{step:09d}_{index}.png"
    folder.mkdir(exist_ok=True)
    save_image(_picture(seed), path, item_info(item))
    return Sample(path, index, item, 32, 32)


def _scorer(tmp_path: Path, encoder: Path, *, trigger_word: str | None = "sks") -> Scorer:
    images = []
    for seed in (10, 11):
        path = tmp_path / f"{seed}.png"
        _picture(seed).save(path)
        images.append(ViewImage(path, sha256_file(path)))
    samples = tmp_path / "samples"
    return Scorer(_encoder(encoder), images, folder=samples, trigger_word=trigger_word, device=CPU)


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("dinov2"), "dinov2")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(write_encoder(tmp_path_factory.mktemp("siglip"), "siglip with text"))


def test_the_scores_are_the_mean_cosines_of_the_librarys_embeddings(dino: Path, tmp_path: Path) -> None:
    scorer = _scorer(tmp_path, dino)
    _sample(scorer.folder, 20, prompt="a cat", step=0, index=1)
    learned = _sample(scorer.folder, 21, prompt="a SKS cat", step=5, index=0)
    neutral = _sample(scorer.folder, 22, prompt="a cat", step=5, index=1)
    found = scorer.score([learned, neutral], StopRequest())
    assert found == _scorer(tmp_path, dino).score([learned, neutral], StopRequest()), "as after a resume"
    model = transformers.Dinov2Model.from_pretrained(dino).eval()
    pixels = {seed: torch.tensor(list(_picture(seed).tobytes())).view(32, 32, 3) for seed in (10, 11, 20, 21, 22)}
    with torch.no_grad():
        embeds = {
            seed: model(pixel_values=(each.permute(2, 0, 1)[None] / 255 - 0.5) / 0.5).pooler_output
            for seed, each in pixels.items()
        }
    likeness = [float(cosine_similarity(embeds[21], embeds[seed])) for seed in (10, 11)]
    assert found is not None and found.prompt_match is None and found.num_lost == 0
    assert found.similarity == pytest.approx(sum(likeness) / 2, abs=3e-4)
    assert found.drift == pytest.approx(1 - float(cosine_similarity(embeds[20], embeds[22])), abs=3e-4)


def test_a_picture_of_other_settings_or_a_lost_one_is_no_start_of_the_drift(dino: Path, tmp_path: Path) -> None:
    scorer = _scorer(tmp_path, dino)
    _sample(scorer.folder, 20, prompt="a cat", step=0, index=0, drawn_with=2)
    samples = [_sample(scorer.folder, 21, prompt="a cat", step=5, index=index) for index in (0, 1)]
    found = scorer.score(samples, StopRequest())
    assert found is not None
    assert (found.similarity, found.drift, found.num_lost) == (None, None, 2)


def test_without_a_trigger_word_all_samples_are_compared_with_the_training_images(dino: Path, tmp_path: Path) -> None:
    scorer = _scorer(tmp_path, dino, trigger_word=None)
    found = scorer.score([_sample(scorer.folder, 10, prompt="a cat", step=0)], StopRequest())
    assert found is not None and found.drift is None and found.num_lost == 0
    assert found.similarity is not None and found.similarity > 0.5, "it is one of the two training images"
    assert scorer.score([_sample(scorer.folder, 10, prompt="a cat", step=0)], StopAfter(1)) is None


def test_what_cannot_be_scored_is_told_and_the_training_goes_on(dino: Path, tmp_path: Path) -> None:
    scorer, lines, path = _scorer(tmp_path, dino), io.StringIO(), tmp_path / "events.jsonl"
    with EventLog(path) as events, Recorder(events, Progress(lines), log_dir=None, log_every=1) as recorder:
        score = Scoring(scorer, Stages(events, Progress(lines)), recorder)
        for step in (1, 2):
            score(step, [_sample(scorer.folder, 21, prompt="a cat", step=step)], StopRequest())
        lost = _sample(scorer.folder, 21, prompt="sks", step=3)
        lost.path.unlink()
        score(3, [lost], StopRequest())
    told = lines.getvalue()
    assert told.count("1 samples without the trigger word have no picture of step 0") == 1, "said once"
    assert "the samples of step 3 are not scored" in told
    assert [event["kind"] for event in read_events(path)] == ["warning", "warning"], "there was nothing to score"


def test_images_for_regularisation_are_no_goal_and_of_very_many_some_are_enough(
    make_example: Callable[..., Example],
) -> None:
    one = make_example(Path("cat.png"), (64, 64))
    images = [replace(one, content_hash=str(at // 2)) for at in range(4 * MOST_IMAGES)]
    found = images_to_compare([replace(images[0], content_hash="reg", is_reg=True), *images], [(1, 2, 3)])
    assert len(found) == MOST_IMAGES == len({each.content_hash for each in found})
    assert (found[0].content_hash, found[-1].content_hash) == ("0", str(2 * MOST_IMAGES - 1))
    assert found[0].background == (1, 2, 3)


def test_prompts_are_matched_as_the_whole_model_matches_them(siglip: Path, tmp_path: Path) -> None:
    scorer = _scorer(tmp_path, siglip)
    found = scorer.score([_sample(scorer.folder, 20, prompt="a Red circle", step=0)], StopRequest())
    whole = transformers.SiglipModel.from_pretrained(siglip).eval()
    ids = torch.tensor([[2, 3, 6, 0, 0, 0, 0, 0]])
    pixels = torch.tensor(list(_picture(20).tobytes())).view(32, 32, 3).permute(2, 0, 1)[None]
    with torch.no_grad():
        output = whole(input_ids=ids, pixel_values=(pixels / 255 - 0.5) / 0.5)
    assert found is not None
    assert found.prompt_match == pytest.approx(float((output.text_embeds * output.image_embeds).sum()), abs=3e-4)
    texts = embed_texts(_encoder(siglip), ["a red circle", "a blue cat " * 20], CPU)
    assert set(texts) == {"a red circle", "a blue cat " * 20}
    torch.testing.assert_close(texts["a red circle"], normalize(output.text_embeds[0], dim=0))


def test_an_encoder_that_cannot_score_is_refused_at_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_tokenizer = write_encoder(tmp_path / "siglip", "siglip with text")
    with pytest.raises(UserError, match=r"sample\.score_with: .*no tokenizer"):
        check_encoder(_encoder(no_tokenizer))
    settings = write_tokenizer(no_tokenizer) / "tokenizer_config.json"
    assert check_encoder(_encoder(no_tokenizer)) is not None
    settings.write_text('{"tokenizer_class": "SiglipTokenizer"}')
    monkeypatch.setattr(vision, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="SentencePiece, which is not installed"):
        check_encoder(_encoder(no_tokenizer))
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"")
    sample = {"prompts": ["a cat"], "score_with": str(tmp_path / "bert")}
    problems = problems_of(tmp_path, sample=sample, train={"disable_sampling": False})
    assert any("sample.score_with" in each and "not a supported vision encoder" in each for each in problems)


def test_the_memory_plan_has_the_larger_side_of_the_encoder_beside_the_model(siglip: Path, tmp_path: Path) -> None:
    facts = check_encoder(_encoder(siglip))
    assert facts is not None and facts.num_weights > facts.num_text_weights > 0
    sample = {"prompts": ["a cat"], "score_with": str(siglip)}
    plan = checked_of(tmp_path, sample=sample, train={"disable_sampling": False}).memory.plan
    phases = {phase.name: phase for phase in plan.phases}
    assert phases["score"].device["image encoder"] == phases["score"].host["loading"] == 4 * facts.num_weights
    assert {"weights", "LoRA", "optimizer"} <= set(phases["score"].device)


def test_a_run_with_scores_trains_as_one_without(dino: Path, tmp_path: Path) -> None:
    train = {"steps": 1, "batch_size": 1, "lr": 0.1}
    assert run_job(write_job(tmp_path, name="plain", train=train)).status == "done"
    sample = {"prompts": ["a [trigger] cat", "a circle"], "sample_every": 1, "sample_steps": 1, "score_with": str(dino)}
    drawn = {"train": {**train, "disable_sampling": False}, "sample": sample}
    path = write_job(tmp_path, name="scored", trigger_word="picture", **drawn)  # the captions have that word
    assert run_job(path).status == "done"
    plain, output = tmp_path / "output" / "plain", tmp_path / "output" / "scored"
    assert losses(plain) == losses(output)
    one, other = (read_tensors(folder / f"{folder.name}.safetensors") for folder in (plain, output))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    rounds = [event for event in read_events(output / "events.jsonl") if event["kind"] == "scores"]
    assert [event["step"] for event in rounds] == [0, 1]
    drifts = [event["drift"] for event in rounds]
    assert drifts[0] == 0 and drifts[1] > 0
    assert all(-1 <= event["similarity"] <= 1 and "prompt_match" not in event for event in rounds)
    columns = CurveReader()
    for event in rounds:
        columns.take(event)
    assert list(columns.columns["scores/drift"].values) == drifts
    assert [chart.title for chart in charts(columns.columns, [])] == ["Picture scores"]
