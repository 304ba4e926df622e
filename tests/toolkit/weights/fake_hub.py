"""A hub on this machine for tests: a few repositories, each out of reach in its own way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
COMMIT = "0123456789012345678901234567890123456789"
# Repository -> file -> content. `bytes` in the listing can be said to be more than there is.
FILES = {
    "owner/diffusers": {
        "model_index.json": b"{}",
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.safetensors": b"weights",
        "vae/diffusion_pytorch_model.bin": b"pickle",
        "transformer/config.json": b"{}",
        "big.safetensors": b"x",
    },
    "owner/gated": {"vae/config.json": b"{}", "vae/diffusion_pytorch_model.safetensors": b"weights"},
    "owner/huge": {"vae/config.json": b"{}", "vae/diffusion_pytorch_model.safetensors": b"weights"},
    "owner/torn": {"config.json": b"{}", "model-00001-of-00002.safetensors": b"one"},
    "owner/encoder": {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(
            {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
        ).encode(),
        "model-00001-of-00002.safetensors": b"one",
        "model-00002-of-00002.safetensors": b"two",
        "consolidated.safetensors": b"both again",
        "tokenizer.json": b"{}",
    },
}
HUGE_BYTES = 10**18
GOOD_TOKEN = "hf_good"
REQUESTS: list[str] = []  # paths that were asked for, by all that ran


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        REQUESTS.append(self.path)
        path = self.path.partition("?")[0].strip("/")
        parts = path.split("/")
        repo = "/".join(parts[2:4]) if parts[:2] == ["api", "models"] else "/".join(parts[:2])
        if repo == "owner/private":
            return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        if repo == "owner/busy":
            return self._send(429, b"{}", {}, body)
        if repo == "owner/broken":
            return self._send(500, b"{}", {}, body)
        if repo == "owner/forbidden":
            return self._send(403, b"{}", {}, body)
        if repo not in FILES:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        if parts[-1] == "auth-check":
            with_token = self.headers.get("Authorization") == f"Bearer {GOOD_TOKEN}"
            refusal = {"X-Error-Code": "GatedRepo"}
            return self._send(200 if with_token else 403, b"{}", {} if with_token else refusal, body)
        if parts[0] == "api":
            return self._send(200, self._listing(repo, is_tree="tree" in parts), {}, body)
        if repo == "owner/gated" and self.headers.get("Authorization") != f"Bearer {GOOD_TOKEN}":
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        content = FILES[repo]["/".join(parts[4:])]
        headers = {"ETag": f'"{abs(hash(content))}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        return self._send(200, content, headers, body)

    def _listing(self, repo: str, *, is_tree: bool) -> bytes:
        sizes = {name: HUGE_BYTES if repo == "owner/huge" else len(content) for name, content in FILES[repo].items()}
        if is_tree:
            return json.dumps([{"type": "file", "path": n, "size": s, "oid": n} for n, s in sizes.items()]).encode()
        siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
        gated = "auto" if repo == "owner/gated" else False
        return json.dumps({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "gated": gated}).encode()

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextmanager
def running() -> Iterator[str]:
    """The hub's address, for as long as the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True  # which a client that keeps its connection would hold up at the end
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def find_all(
    endpoint: str,
    cases: list[tuple[str, str]],
    cache: Path,
    *,
    functions: Sequence[str] = ("find_component",),
    **environment: str,
) -> list[str]:
    """What `find_component` or `reach_component` gives for each (place, component), in a process of its own.

    Args:
        functions: the ones to call, each with all cases.

    Returns:
        For each call: the files found with their content, or the error.
    """
    script = (
        "import json, sys\n"
        "from toolkit.errors import UserError\n"
        "from toolkit.weights import layouts\n"
        "answers = []\n"
        "for function, place, component in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        find = getattr(layouts, function)\n"
        "        found = find(place, component, single_files=['ae.safetensors'], setting='model.x')\n"
        "        names = sorted(path.name for path in found.folder.iterdir()) if found and found.folder else []\n"
        "        contents = [path.read_text() for path in found.weights] if found else []\n"
        "        answers.append(' '.join(['found', *names, *contents]))\n"
        "    except UserError as error:\n"
        "        answers.append(str(error))\n"
        "print(json.dumps(answers))\n"
    )
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
    settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"} | environment
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [sys.executable, "-c", script, json.dumps([(name, *case) for name in functions for case in cases])]
    done = subprocess.run(command, env=inherited | settings, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))
