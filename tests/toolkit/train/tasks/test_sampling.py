"""toolkit.train.tasks.sampling"""

from pathlib import Path

import pytest
from PIL import Image

from toolkit.train.tasks.sampling import GRID_COLUMNS, save_image, write_grid, write_strips


def _sample(folder: Path, step: int, index: int, color: str, *, at_ms: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (64, 32), color).save(folder / f"{at_ms}__{step:09d}_{index}.png")


def test_the_grid_has_a_row_for_each_prompt_and_a_column_for_each_step(tmp_path: Path) -> None:
    for step in (0, 100, 200):
        for index in (0, 1):
            _sample(tmp_path, step, index, "red")
    grid = write_grid(tmp_path)
    assert grid is not None
    with Image.open(grid) as image:
        assert image.size == (3 * 256, 18 + 2 * 256)


def test_the_latest_drawing_of_a_step_counts(tmp_path: Path) -> None:
    _sample(tmp_path, 100, 0, "red", at_ms=1)
    _sample(tmp_path, 100, 0, "blue", at_ms=2)
    grid = write_grid(tmp_path)
    assert grid is not None
    with Image.open(grid) as image:
        red, _, blue = _pixel(image, 128, 80)
    assert blue > 200 > red


def _pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel


def test_without_samples_there_is_no_grid(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert write_grid(tmp_path) is None


@pytest.mark.parametrize("name", ["grid.jpg", "holiday.png", "1__x_0.png"])
def test_other_pictures_are_left_alone(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert write_grid(tmp_path) is None


def test_the_grid_of_a_run_with_hundreds_of_samples_shows_its_whole_course(tmp_path: Path) -> None:
    for step in range(300):
        Image.new("RGB", (8, 8), (step % 256, 0, 0)).save(tmp_path / f"{step}__{step:09d}_0.png")
    grid = write_grid(tmp_path)
    assert grid is not None
    with Image.open(grid) as sheet:
        assert sheet.width == GRID_COLUMNS * 256
        first, last = _pixel(sheet, 128, 150), _pixel(sheet, sheet.width - 128, 150)
    assert first[0] < 8 and abs(last[0] - 299 % 256) < 8


@pytest.mark.parametrize("extension", ["webp", "gif"])
def test_a_strip_shows_the_samples_of_a_prompt_one_after_another(tmp_path: Path, extension: str) -> None:
    for step, color in ((0, "red"), (100, "lime"), (200, "blue")):
        _sample(tmp_path, step, 0, color)
    _sample(tmp_path, 0, 1, "red")
    write_strips(tmp_path, extension)
    assert not (tmp_path / f"strip_1.{extension}").exists(), "one picture does not move"
    with Image.open(tmp_path / f"strip_0.{extension}") as strip:
        assert getattr(strip, "n_frames", 1) == 3
        for frame, channel in enumerate((0, 1, 2)):
            strip.seek(frame)
            pixel = _pixel(strip.convert("RGB"), 200, 100)
            assert pixel[channel] == max(pixel) > 200
    assert write_grid(tmp_path) is not None, "strips are no samples"


def test_the_grid_names_the_prompts_that_its_samples_tell(tmp_path: Path) -> None:
    save_image(Image.new("RGB", (64, 32)), tmp_path / "1__000000000_0.png", {"prompt": "a red circle"})
    grid = write_grid(tmp_path)
    assert grid is not None
    with Image.open(grid) as image:
        assert image.size == (160 + 256, 18 + 256)
