"""flux_train_ui.py: started as users start it, and used in a real browser."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_train_ui import main
from toolkit.extension import REPOSITORY
from toolkit.output.bundles import newest_bundle

PROGRAM = [sys.executable, "flux_train_ui.py"]


@pytest.mark.parametrize("option", ["--share", "--listen"])
@pytest.mark.parametrize(("more", "message"), [((), "--auth USER:PASSWORD"), (("--auth", "me:short"), "12 characters")])
def test_others_are_let_in_only_with_a_password(
    option: str, more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main([option, *more])
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def address(work: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (work / "log.txt").open("w", encoding="utf-8")
    places = ["--store", str(work / "store"), "--datasets", str(work / "datasets"), "--output", str(work / "output")]
    server = subprocess.Popen(
        [*PROGRAM, "--port", str(port), "--no-browser", *places], cwd=REPOSITORY, stdout=log, stderr=log
    )
    try:
        yield _when_up(f"http://127.0.0.1:{port}/", server)
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


def _when_up(address: str, server: subprocess.Popen[bytes]) -> str:
    for _ in range(300):
        assert server.poll() is None, "the page's server has ended"
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return address
    raise AssertionError("the page never came up")


def test_a_job_is_made_checked_trained_left_and_stopped_from_the_page(address: str, work: Path) -> None:
    """The tiny model is trained for real: a minute, most of it to import what trains."""
    story = ["node", "tests/ui/simple/story.mjs", address, str(REPOSITORY / "assets" / "demo_dataset")]
    done = subprocess.run(story, cwd=REPOSITORY, capture_output=True, text=True, timeout=420, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["refused"] == "Pictures: drop some first."
    assert "FLUX.2 tiny" in seen["plan"]
    assert seen["faults"] == []
    bundle, _ = newest_bundle(work / "output" / "from_the_page", is_thorough=True)
    assert bundle is not None
    assert 0 < bundle.step < 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "evil.test"}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_from_other_origins_are_refused(address: str, headers: dict[str, str], status: int) -> None:
    request = urllib.request.Request(f"{address}config", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == status
    except urllib.error.HTTPError as error:
        assert error.code == status
