"""A hub on this machine that takes what huggingface_hub uploads, as far as an upload of small files needs it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "x" * 30


@dataclass
class FakeHub:
    """What was made and uploaded.

    Attributes:
        address: of the server.
        created: the requests to make a repository.
        files: content by path, of the last upload.
        refuses: answer uploads with this status; 0: take them.
    """

    address: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    refuses: int = 0


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub for the length of a `with` block."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer(401, {"error": "Invalid credentials"})
            if self.path == "/api/repos/create":
                request = json.loads(body)
                hub.created.append(request)
                return self.answer(200, {"url": f"{hub.address}/{request.get('organization')}/{request['name']}"})
            if self.path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            if hub.refuses:
                return self.answer(hub.refuses, {"error": "Storage quota exceeded"})
            if "/preupload/" in self.path:
                listed = [{"path": it["path"], "uploadMode": "regular"} for it in json.loads(body)["files"]]
                return self.answer(200, {"files": [it | {"shouldIgnore": False} for it in listed]})
            if "/commit/" in self.path:
                lines = [json.loads(line)["value"] for line in body.splitlines() if json.loads(line)["key"] == "file"]
                hub.files = {it["path"]: base64.b64decode(it["content"]) for it in lines}
                return self.answer(200, {"commitUrl": f"{hub.address}/o/n/commit/1", "commitOid": "1" * 40})
            return self.answer(404, {"error": f"unknown: {self.path}"})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
