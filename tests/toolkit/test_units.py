"""toolkit.units"""

from toolkit.units import GB, MB, as_size, gigabytes


def test_a_gigabyte_is_what_card_makers_call_one() -> None:
    assert (gigabytes(24 * GB), as_size(24 * GB)) == ("24.0", "24.0 GB")
    assert as_size(2_000_000_000) == "1.9 GB"


def test_small_sizes_are_still_told_apart() -> None:
    assert (gigabytes(30 * MB), as_size(30 * MB)) == ("0.03", "30.0 MB")
