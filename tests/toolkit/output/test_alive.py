"""Who a process is, and what has become of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from toolkit.output.alive import ProcessIdentity, this_process


def test_the_process_that_asks_is_alive() -> None:
    assert (this_process().fate, this_process().is_alive()) == ("alive", True)


def test_one_that_has_ended_is_gone_although_its_number_may_be_used_again() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert replace(this_process(), pid=child.pid).fate == "gone"
    assert replace(this_process(), started=this_process().started + 1).fate == "gone"


@pytest.mark.parametrize("host", ["11111111", ""])
def test_a_reboot_is_distinguished_from_another_machine_where_hosts_have_an_identity(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("toolkit.output.alive.this_host", lambda: host)
    before = replace(this_process(), machine="00000000", boot="00000000")
    assert before.fate == ("rebooted" if host else "elsewhere")
    assert replace(before, host="22222222").fate == "elsewhere"
    assert before.is_alive() is None, "a lock must not rest on the name of a host"


def test_another_container_of_this_host_cannot_be_seen() -> None:
    assert replace(this_process(), machine="00000000").fate == "elsewhere"


def test_records_of_older_versions_are_read() -> None:
    old = {key: value for key, value in asdict(this_process()).items() if key not in ("host", "boot")}
    assert ProcessIdentity(**old).fate == "alive"


def test_who_it_is_does_not_depend_on_what_is_known_of_its_host() -> None:
    assert replace(this_process(), host="", boot="") == this_process()
