"""toolkit.plan.encoded_size"""

from pathlib import Path

from toolkit.encode.storage import MEMORY_LIMIT_BYTES
from toolkit.plan.encoded_size import describe_captions, overflow_bytes

DEV = (512, 15360)
OVERFLOW = Path("out/_overflow_cache")


def test_few_captions_stay_in_memory() -> None:
    captions: dict[str, Path | None] = {f"caption {index}": None for index in range(20)}
    assert overflow_bytes(captions, DEV) == 0
    line = describe_captions(captions, DEV, overflow=OVERFLOW)
    assert line == "20 distinct captions, each encoded once: up to 300.0 MB in memory"


def test_a_thousand_captions_are_announced_to_overflow_to_disk() -> None:
    captions: dict[str, Path | None] = {f"caption {index}": None for index in range(1000)}
    assert 8e9 < overflow_bytes(captions, DEV) < 15.8e9 - MEMORY_LIMIT_BYTES
    line = describe_captions(captions, DEV, overflow=OVERFLOW)
    assert "1.9 GB in memory" in line
    assert f"8.6 GB in {OVERFLOW} until the run is done" in line


def test_what_is_cached_on_disk_takes_no_memory() -> None:
    captions: dict[str, Path | None] = {f"caption {index}": Path("images/_t_e_cache") for index in range(1000)}
    assert overflow_bytes(captions, DEV) == 0
    line = describe_captions(captions, DEV, overflow=OVERFLOW)
    assert line.endswith("up to 9.8 GB in images/_t_e_cache")
