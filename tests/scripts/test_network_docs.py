from __future__ import annotations

from scripts import write_network_docs
from toolkit.networks.choices import NETWORKS, REFUSED_NETWORKS


def test_the_document_is_current() -> None:
    assert write_network_docs.main(["--check"]) == 0, "run python scripts/write_network_docs.py"


def test_every_kind_has_a_row_and_every_refused_one_its_reason() -> None:
    text = write_network_docs.document()
    assert set(write_network_docs.SETTINGS) == set(write_network_docs.READERS) == set(NETWORKS)
    assert all(f"- `{name}`: {reason}." in text for name, reason in REFUSED_NETWORKS.items())
