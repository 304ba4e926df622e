"""toolkit.units"""

from __future__ import annotations

import pytest

from toolkit.units import GB, MB, as_size, duration, gigabytes


def test_a_gigabyte_is_what_card_makers_call_one() -> None:
    assert (gigabytes(24 * GB), as_size(24 * GB)) == ("24.0", "24.0 GB")
    assert as_size(2_000_000_000) == "1.9 GB"


def test_small_sizes_are_still_told_apart() -> None:
    assert (gigabytes(30 * MB), as_size(30 * MB)) == ("0.03", "30.0 MB")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (185, "3m 05s"), (3599.9, "1h 00m"), (7620, "2h 07m")],
)
def test_a_duration_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
