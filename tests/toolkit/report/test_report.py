"""`report.html`: what it says, that it holds all it shows, and that it says it of damaged folders too."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.toolkit.report.finished import PROMPT, finished_run
from toolkit.errors import UserError
from toolkit.output.events import EventLog
from toolkit.output.sample_files import SAMPLES, sample_name
from toolkit.report import write_report
from toolkit.report.pictures import sample_matrix
from toolkit.report.story import read_story
from toolkit.report.validation import validation_charts


class Page(HTMLParser):
    """The text of a page, and the addresses in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("output") / "cats")


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_a_report_says_what_the_run_did(folder: Path) -> None:
    text = page_of(folder).text
    for said in ("cats", "done", "40 of 40", "20s", "flux2_tiny", "a caption is <empty>", "torch 2.13.0", "abc123"):
        assert said in text
    assert re.search(r"train\s*1m 01s\s*3\.0 GB\s*2\.0 GB", re.sub(r"\s+", " ", text))
    assert re.search(r"network\.linear\s*8\s*16", re.sub(r"\s+", " ", text)), "a setting, its value and its default"
    assert "train.batch_size" not in text, "what is at its default is left out"
    assert "4 pictures" in text


def test_a_report_shows_validation_with_its_intervals_and_the_best_round(folder: Path) -> None:
    text = re.sub(r"\s+", " ", page_of(folder).text)
    assert "Best by held-out images: step 20, error -18.1 % against the base model." in text
    assert "Steps not significantly different from it: 40." in text
    for title in ("Change of the error", "Distance to the base model", "Held-out images, by noise level"):
        assert title in text
    found = {chart.title[:6]: chart for chart in validation_charts(read_story(folder).rounds, [])}
    held_out, train = found["Change"].lines
    assert (held_out.last, train.last) == ("-9.516", "-32.97")
    assert held_out.band, "its interval"
    assert [line.name for line in found["Held-o"].lines] == ["noise 0-0.5", "noise 0.5-1"]


def test_a_report_holds_all_that_it_shows(folder: Path) -> None:
    page = page_of(folder)
    assert len([address for address in page.addresses if address.startswith("data:image/webp;base64,")]) == 2 * 3 + 4
    assert all(address.startswith("data:") for address in page.addresses)
    assert "link" not in page.tags
    assert "iframe" not in page.tags


def test_texts_of_the_user_stay_texts(folder: Path) -> None:
    page = page_of(folder)
    assert PROMPT in page.text
    assert "b" not in page.tags[: page.tags.index("figcaption")]
    assert page.tags.count("script") == 1 + len(re.findall("application/json", (folder / "report.html").read_text()))


def test_a_folder_that_has_lost_its_files_still_has_a_report(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "cats")
    (folder / "config.yaml").write_text("config: [", encoding="utf-8")
    (folder / "runs.jsonl").unlink()
    for picture in list((folder / SAMPLES).iterdir())[:3]:
        picture.write_bytes(b"no picture")
    text = page_of(folder).text
    assert "can't be checked any more" in text
    assert "config: [" in text
    assert "40 of 40" in text


def test_a_dataset_that_was_moved_or_emptied_is_said_to_be(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "cats")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    text = page_of(folder).text
    assert str(tmp_path / "images") in text.partition("can't be checked any more")[2]
    (tmp_path / "images").mkdir()
    assert "can no longer be read" in page_of(folder).text


def test_names_that_are_no_text_do_not_spoil_the_report(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "cats")
    with EventLog(folder / "events.jsonl") as log:
        log.write("warning", text="cannot read \udcff.png")
    assert "cannot read ?.png" in page_of(folder).text


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no log of a run to report on"):
        write_report(tmp_path)


@pytest.mark.parametrize("most_bytes", [2_000, 20_000, 900_000])
def test_samples_take_no_more_room_than_they_may(tmp_path: Path, most_bytes: int) -> None:
    (tmp_path / SAMPLES).mkdir()
    for step in range(8):
        for index in range(3):
            path = tmp_path / SAMPLES / sample_name(time_ms=step, step=step, index=index, extension="jpg")
            Image.effect_noise((160, 160), 90).convert("RGB").save(path)
    matrix = sample_matrix(tmp_path, {}, most_bytes=most_bytes)
    assert sum(len(picture) for row in matrix.rows for picture in row.pictures.values()) <= most_bytes
    assert matrix.num_steps == 8
    if most_bytes == 900_000:
        assert (len(matrix.rows), list(matrix.steps)) == (3, list(range(8)))
    if most_bytes == 20_000:
        assert (matrix.steps[0], matrix.steps[-1]) == (0, 7)
        assert len(matrix.steps) < 8
