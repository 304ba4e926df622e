"""toolkit.runtime.nvidia_smi"""

from __future__ import annotations

from pathlib import Path

from tests.toolkit.runtime.test_device_probe import write_driver
from toolkit.runtime.nvidia_smi import DriverCard, driver_cards
from ui.server.machine import Cards

MIB = 1 << 20
# As an H100 says it (driver 580).
H100 = {
    "index": "0",
    "uuid": "GPU-f511ff62-5da5-8b73-e9f6-83f2758f6421",
    "name": "NVIDIA H100 80GB HBM3",
    "mig.mode.current": "Disabled",
    "memory.total": "81559",
    "memory.reserved": "480",
    "memory.used": "0",
    "memory.free": "81079",
    "utilization.gpu": "0",
    "temperature.gpu": "31",
    "power.draw": "69.58",
}
NEW = ("uuid", "mig.mode.current", "memory.reserved", "memory.free")


def test_one_question_tells_all_that_plan_and_page_want_to_know(tmp_path: Path) -> None:
    assert driver_cards(str(write_driver(tmp_path, H100))) == (
        DriverCard(
            index=0,
            name="NVIDIA H100 80GB HBM3",
            total_bytes=81559 * MIB,
            used_bytes=0,
            load=0.0,
            temperature_c=31.0,
            power_w=69.58,
            uuid="GPU-f511ff62-5da5-8b73-e9f6-83f2758f6421",
            is_sliced=False,
            reserved_bytes=480 * MIB,
            free_bytes=81079 * MIB,
        ),
    )


def test_what_a_card_does_not_say_is_unknown(tmp_path: Path) -> None:
    silent = H100 | {"utilization.gpu": "[N/A]", "power.draw": "[Not Supported]", "memory.reserved": "[N/A]"}
    found = driver_cards(str(write_driver(tmp_path, silent)))
    assert found is not None
    assert (found[0].load, found[0].power_w, found[0].reserved_bytes) == (None, None, None)


def test_an_old_driver_is_asked_in_words_that_it_knows(tmp_path: Path) -> None:
    old = {key: value for key, value in H100.items() if key not in NEW}
    found = driver_cards(str(write_driver(tmp_path, old)))
    assert found is not None
    assert (found[0].total_bytes, found[0].uuid, found[0].free_bytes) == (81559 * MIB, "", None)
    assert [card.name for card in Cards(str(tmp_path / "nvidia-smi")).all()] == ["NVIDIA H100 80GB HBM3"]


def test_a_driver_that_fails_or_speaks_in_riddles_has_no_cards_to_show(tmp_path: Path) -> None:
    for number, (row, code) in enumerate(((H100, 9), (H100 | {"index": "first"}, 0), (H100 | {"name": "a, b"}, 0))):
        folder = tmp_path / str(number)
        folder.mkdir()
        program = str(write_driver(folder, row, exit_code=code))
        assert driver_cards(program) is None
        assert Cards(program).all() == []


def test_the_driver_is_asked_once_for_all_that_ask_within_two_seconds(tmp_path: Path) -> None:
    program = write_driver(tmp_path, H100)
    assert driver_cards(str(program))
    program.unlink()
    assert driver_cards(str(program))
