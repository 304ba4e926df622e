"""People are notified once, by pages and by a webhook, that a job is done, has failed or needs them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.ui.server.conftest import Site, job_text, serving_site, wait_for
from toolkit.output.alive import this_process
from toolkit.output.run_record import RunRecord
from ui.server.jobs.job import Job
from ui.server.jobs.launch import Launch, write_launch
from ui.server.jobs.lost import Anchors
from ui.server.notices import notifier, webhook
from ui.server.notices.occasions import line_of, notice_of, notice_of_disk
from ui.server.notices.outbox import Outbox
from ui.server.notices.webhook import Reply, Webhook, send, wrong_with
from ui.server.schemas import DiskInfo, Notice
from ui.server.store import Entry, Store

SECRET = "T0PSECRET-abcdef"


class Receiver(ThreadingHTTPServer):
    """The other side: keeps what it gets, and answers as it is told to.

    Attributes:
        got: path, headers and text of each request.
        answer: status, headers and text of the next answers.
        drip_s: seconds between the bytes of an answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, str], str]] = []
        self.answer: tuple[int, dict[str, str], str] = (200, {}, "ok")
        self.drip_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/{SECRET}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.got.append((self.path, dict(self.headers), text))
        status, headers, answer = self.server.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for byte in answer.encode() if self.server.drip_s else ():
            time.sleep(self.server.drip_s)
            self.wfile.write(bytes([byte]))
        if not self.server.drip_s:
            self.wfile.write(answer.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tells without the pauses that keep a server calm."""
    monkeypatch.setattr(notifier, "_LOOK_S", 0.05)
    monkeypatch.setattr(notifier, "_STEADY_S", 0.1)


def notice(text: str = "Finished at 12:00.", **more: Any) -> Notice:
    given = {
        "id": "a1",
        "occasion": "failed",
        "job_id": "j1",
        "title": "cats: failed",
        "text": text,
        "time": time.time(),
    }
    return Notice(**given | more)


def set_webhook(site: Site, receiver: Receiver, **more: Any) -> None:
    answer = site.client.put("/api/settings", json={"webhook_url": receiver.url, **more})
    assert answer.status_code == 200, answer.text


# what arrives


def test_each_service_gets_what_it_understands(receiver: Receiver) -> None:
    message = notice("Step <3> & @everyone", title="Käse: failed")
    for kind in ("json", "ntfy", "discord", "slack"):
        assert send(Webhook(receiver.url, kind), message) == Reply(True, False, "HTTP 200: ok")
    (path, _, plain), (_, headers, ntfy), (_, _, discord), (_, _, slack) = receiver.got
    assert path == f"/hooks/{SECRET}"
    assert json.loads(plain)["event"] == "failed"
    assert json.loads(plain)["title"] == "Käse: failed"
    assert ntfy == "Step <3> & @everyone"
    assert headers["Title"] == "=?utf-8?q?K=C3=A4se=3A_failed?="
    assert headers["User-Agent"].startswith("flux2-trainer/")
    assert json.loads(discord)["allowed_mentions"] == {"parse": []}
    assert json.loads(slack)["text"] == "*Käse: failed*\nStep &lt;3&gt; &amp; @everyone"


def test_a_login_in_the_address_is_sent_as_a_header(receiver: Receiver) -> None:
    assert send(Webhook(receiver.url.replace("//", "//me:p%40ss@"), "json"), notice()).is_accepted
    assert receiver.got[0][1]["Authorization"] == "Basic bWU6cEBzcw=="


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = 302, {"Location": receiver.url}, ""
    reply = send(Webhook(receiver.url, "json"), notice())
    assert not reply.is_accepted
    assert not reply.can_retry
    assert "redirects are not followed" in reply.said
    assert len(receiver.got) == 1


def test_an_answer_is_shown_without_the_address_that_it_repeats(receiver: Receiver) -> None:
    receiver.answer = 404, {}, f"Cannot POST /hooks/{SECRET}"
    assert send(Webhook(receiver.url, "json"), notice()).said == "HTTP 404: Cannot POST /hooks/…"


def test_an_answer_that_drips_is_given_up(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    receiver.answer, receiver.drip_s = (200, {}, "x" * 600), 0.1
    began = time.monotonic()
    reply = send(Webhook(receiver.url, "json"), notice())
    assert time.monotonic() - began < 30, "all of it takes a minute"
    assert reply.said == "There was no answer within 0.3 seconds."
    assert not reply.can_retry, "it may have been read"


def test_a_port_that_nobody_listens_on_says_so() -> None:
    reply = send(Webhook(f"http://127.0.0.1:9/{SECRET}", "json"), notice())
    assert reply == Reply(False, True, "It could not be reached: Connection refused.")


@pytest.mark.parametrize(
    "url",
    [
        "ntfy.sh/topic",
        "file:///etc/passwd",
        "ftp://host/x",
        "javascript:alert(1)",
        "http://",
        "http://:80/",
        "http://host:99999/",
        "http://host:0/",
        "http://[::1/x",
        "http://host/a b",
        "http://host/\r\nX: 1",
        "http://host/ä",
        "http://host/#part",
        "http://host/" + "x" * 2000,
    ],
)
def test_what_is_not_an_address_is_refused_without_repeating_it(url: str) -> None:
    wrong = wrong_with(url)
    assert wrong is not None
    assert url not in wrong


@pytest.mark.parametrize("url", ["https://ntfy.sh/topic?auth=x", "http://192.168.1.5:8080/x", "http://[::1]:9/x"])
def test_addresses_of_this_machine_and_the_local_network_are_taken(url: str) -> None:
    assert wrong_with(url) is None


def test_a_text_becomes_one_line_that_steers_nothing() -> None:
    assert line_of("a\n\x1b[31mb\u202e" + "c" * 600) == "a \\x1b[31mb\\u202e" + "c" * 482 + "…"


def test_a_drive_that_is_nearly_full_is_named() -> None:
    message = notice_of_disk(DiskInfo(root="/data", total_bytes=10**12, free_bytes=2 << 30))
    assert message.title == "Disk nearly full: 2.0 GB free"
    assert "/data" in message.text


# once


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "index.sqlite")
    store.open()
    yield store
    store.close()


def deliver(outbox: Outbox, url: str) -> list[str]:
    failed: list[str] = []
    outbox.deliver(lambda: Webhook(url, "json"), failed.append)
    return failed


def test_what_the_other_side_cannot_take_now_is_tried_again_and_complained_of_once(
    store: Store, receiver: Receiver
) -> None:
    outbox = Outbox(store, pauses_s=(0.0, 0.0))
    outbox.add("j1", notice(), is_sent=True)
    receiver.answer = 503, {}, "later"
    assert deliver(outbox, receiver.url) == ["HTTP 503: later"]
    assert deliver(outbox, receiver.url) == []
    assert outbox.problem == "HTTP 503: later"
    receiver.answer = 200, {}, ""
    assert deliver(Outbox(store, pauses_s=(0.0, 0.0)), receiver.url) == []
    assert outbox.problem is None
    assert deliver(Outbox(store), receiver.url) == []
    assert len(receiver.got) == 3


def test_a_message_is_given_up_after_the_last_try(store: Store, receiver: Receiver) -> None:
    outbox = Outbox(store, pauses_s=(0.0,))
    outbox.add("j1", notice(), is_sent=True)
    receiver.answer = 500, {}, ""
    for _ in range(4):
        deliver(outbox, receiver.url)
    assert len(receiver.got) == 2


def test_a_server_that_died_while_it_sent_does_not_send_twice(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> Reply:
        raise KeyboardInterrupt

    outbox = Outbox(store)
    outbox.add("j1", notice(), is_sent=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ui.server.notices.outbox.send", die)
        deliver(outbox, receiver.url)
    after = Outbox(store)
    deliver(after, receiver.url)
    assert after.add("j1", notice(), is_sent=True) is False
    assert receiver.got == []


def test_what_has_waited_for_hours_is_not_sent(store: Store, receiver: Receiver) -> None:
    outbox = Outbox(store)
    outbox.add("j1", notice(time=time.time() - 7 * 3600), is_sent=True)
    deliver(outbox, receiver.url)
    assert receiver.got == []
    assert outbox.recent() == []


# of jobs


def arrivals(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    wait_for(lambda: len(receiver.got) >= count, lambda: receiver.got)
    return [json.loads(text) for _, _, text in receiver.got]


def quiet(look: Callable[[], Any]) -> None:
    """Nothing comes for as long as it would take."""
    time.sleep(0.5)
    assert not look()


def ended(site_folder: Path, name: str, status: str, error: str = "") -> None:
    """A run that ended in this moment, started by nobody that the page knows."""
    folder = site_folder / "output" / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(job_text(site_folder, name), encoding="utf-8")
    with RunRecord(folder, {"job": name}) as record:
        record.ends(status, **({"error": error} if error else {}))


def titles(site: Site) -> list[str]:
    return sorted(it["title"] for it in site.client.get("/api/notices").json()["notices"])


def test_runs_are_told_of_once_also_those_that_end_while_no_server_runs(
    tmp_path: Path, receiver: Receiver, quick: None
) -> None:
    ended(tmp_path, "older", "done")
    with serving_site(tmp_path) as site:
        set_webhook(site, receiver)
        wait_for(lambda: site.services.store.fact("notices.since"))
        ended(tmp_path, "cats", "done")
        site.services.registry.look(everywhere=True)
        came = arrivals(receiver, 1)[0]
        assert (came["event"], came["title"]) == ("done", "cats: done")
        assert came["text"].startswith("Finished at")
        assert titles(site) == ["cats: done"]
    ended(tmp_path, "dogs", "failed", "UserError: the disk is full")
    with serving_site(tmp_path):
        assert [it["title"] for it in arrivals(receiver, 2)] == ["cats: done", "dogs: failed"]
        assert "the disk is full" in receiver.got[1][2]
    receiver.got.clear()
    with serving_site(tmp_path):
        quiet(lambda: receiver.got)


def test_a_refused_start_needs_somebody_and_a_failing_webhook_is_shown_once(
    tmp_path: Path, receiver: Receiver, quick: None
) -> None:
    receiver.answer = 410, {}, "gone"
    with serving_site(tmp_path) as site:
        set_webhook(site, receiver, webhook_on=["needs"])
        wait_for(lambda: site.services.store.fact("notices.since"))
        ended(tmp_path, "fine", "done")
        mine = site.services.registry.get(site.make("mine"))
        write_launch(mine.folder, Launch(time.time(), None, None, 0, exit_code=2, after_run=""))
        site.services.registry.look(everywhere=True)
        assert arrivals(receiver, 1)[0]["title"] == "mine: needs fixing before it can start"
        wait_for(lambda: site.client.get("/api/notices").json()["webhook_problem"] == "HTTP 410: gone")
        failed = "The webhook could not be delivered"
        expected = [failed, "fine: done", "mine: needs fixing before it can start"]
        wait_for(lambda: titles(site) == expected, lambda: titles(site))
        set_webhook(site, receiver)
        assert site.client.get("/api/notices").json()["webhook_problem"] is None
        quiet(lambda: len(receiver.got) > 1)


def test_nobody_is_told_of_a_run_that_they_have_killed(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "output" / "cats"
    folder.mkdir(parents=True)
    start = {"kind": "start", "time": time.time(), "run": "r1"}
    gone = asdict(this_process()) | {"started": 1.0}
    (folder / "runs.jsonl").write_text(json.dumps(start | {"process": gone}) + "\n", encoding="utf-8")
    job = Job("a" * 16, tmp_path, folder, Anchors(store))
    entry = Entry(job.id, folder)
    job.refresh(entry)
    assert job.state == "killed"
    assert notice_of(job) is not None
    job.refresh(replace(entry, wish="kill", start="r1"))
    assert notice_of(job) is None
    job.refresh(replace(entry, wish="kill", start="an earlier one"))
    assert notice_of(job) is not None


# the settings


def test_a_try_says_what_the_other_side_answered(site: Site, receiver: Receiver) -> None:
    answer = site.client.post("/api/settings/webhook/test", json={})
    assert answer.status_code == 409
    set_webhook(site, receiver, webhook_kind="slack")
    receiver.answer = 403, {}, "invalid_token"
    answer = site.client.post("/api/settings/webhook/test", json={})
    assert answer.json() == {"is_accepted": False, "said": "HTTP 403: invalid_token"}
    assert json.loads(receiver.got[0][2])["text"].startswith("*A test of")


def test_the_address_of_a_webhook_is_written_and_never_read_out(
    site: Site, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [site.client.put("/api/settings", json={"webhook_url": f"http://h{c}/{SECRET}"}) for c in " #\n"]
    assert [answer.status_code for answer in answers] == [422, 422, 422]
    set_webhook(site, receiver)
    receiver.answer = 500, {}, receiver.url
    answers.append(site.client.post("/api/settings/webhook/test", json={}))
    answers += [site.client.get(path) for path in ("/api/settings", "/api/notices", "/api/machine")]
    assert answers[-3].json()["has_webhook"] is True
    assert SECRET not in "".join(answer.text for answer in answers) + caplog.text
    kept = site.folder / "store" / "webhook_url"
    assert kept.stat().st_mode & 0o777 == 0o600
    site.client.put("/api/settings", json={"webhook_url": ""})
    assert not kept.exists()
