"""Attacks on a server, each a function over an app: what it finds is a list of sentences, empty for a sound app.

The routes come from the app's own router, with every parameter that it declares, so that none can be forgotten.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from tests.reliability.scale import IS_LONG
from tests.ui.server.conftest import TOKEN, job_text
from ui.server.auth import COOKIE

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SECRET = "the canary sings"
OPEN = {"/healthz", "/{path:path}"}
STREAMS = {"/api/events"}
ORIGINS = ("https://evil.test", "http://127.0.0.1:8188", "null", "http://testserver:81", "http://testserver.evil.test")
SITES = ("cross-site", "same-site")
HOSTS = ("evil.test", "evil.test:8675", "testserver.evil.test", "", "169.254.169.254")
FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/xml", "")


@dataclass
class Target:
    """An app under attack.

    Attributes:
        app: the app; its threads run.
        client: speaks to it without a token.
        folder: of the site; its root.
        outside: a folder beside it that nobody may read or change.
        job_id: of a job in it.
        files: ids of its files.
        dataset_id: of the folder of pictures that it trains on.
        pictures: ids of its pictures.
        num_requests: how many were sent.
    """

    app: FastAPI
    client: TestClient
    folder: Path
    outside: Path
    job_id: str
    files: list[str]
    dataset_id: str
    pictures: list[str]
    num_requests: int = field(default=0)

    def send(self, method: str, url: str, *, token: str | None = None, headers: Any = None, body: Any = None) -> Any:
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        if body is not None and method in ("POST", "PUT", "PATCH"):
            given.setdefault("content-type", "application/json")
            content = body if isinstance(body, str) else json.dumps(body)
            answer = self.client.request(method, url, headers=given, content=content.encode("utf-8", "replace"))
        else:
            answer = self.client.request(method, url, headers=given)
        self.num_requests += 1
        self.app.state.keys._wrong.clear()  # a pause after wrong tokens is tested by itself
        return answer

    def url(self, route: APIRoute, **values: str) -> str:
        """The address of a route, with values of its parameters that are there."""
        known = {"id": self.job_id, "action": "start", "step": "3", "file": self.files[0], "path": "index.html"}
        if route.path.startswith("/files"):
            known["id"] = self.files[0]
        if "/datasets" in route.path:
            known |= {"id": self.dataset_id, "name": "new.png", "file": self.pictures[0]}
        if route.path.startswith("/files/datasets"):
            known["id"] = self.pictures[0]
        url = route.path
        for name, value in (known | values).items():
            url = url.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        return url


def routes(app: FastAPI) -> list[APIRoute]:
    """Every route of an app, those of routers within routers too."""
    return list(_routes(app.router.routes))


def _routes(found: Any) -> Iterator[APIRoute]:
    for route in found:
        if isinstance(route, APIRoute):
            yield route
        else:
            yield from _routes(getattr(getattr(route, "original_router", None), "routes", ()))


def tree_hash(*folders: Path) -> str:
    """Of every name and content below some folders, but what is made anew of them."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not {"thumbs", "texts", "store"} & set(path.relative_to(folder).parts):
                digest.update(str(path).encode("utf-8", "replace") + path.read_bytes())
            elif path.is_dir():
                digest.update(str(path).encode("utf-8", "replace"))
    return digest.hexdigest()


def index_of(target: Target) -> Any:
    """What the index holds."""
    return target.app.state.services.store.entries(), target.app.state.services.settings.read()


def unguarded(target: Target) -> list[str]:
    """U2: every route with every method, without a token and with wrong ones: no success, and no effect."""
    findings = []
    keys = target.app.state.keys
    wrong = (None, "", "wrong", TOKEN[:-1], TOKEN + " x", keys.cookie, TOKEN.upper())
    before = tree_hash(target.folder, target.outside), index_of(target)
    for route in routes(target.app):
        for method in METHODS:
            for token in wrong if method in (route.methods or ()) else wrong[1:3]:
                answer = target.send(method, target.url(route), token=token, body={})
                if answer.status_code >= 500:
                    findings.append(f"{method} {route.path} fails with {answer.status_code}")
                is_open = route.path in OPEN and method in ("GET", "HEAD")
                if answer.status_code < 400 and not is_open:
                    findings.append(f"{method} {route.path} lets {token!r} in: {answer.status_code}")
    if (tree_hash(target.folder, target.outside), index_of(target)) != before:
        findings.append("something was changed without the token")
    return findings


def changing_gets(target: Target) -> list[str]:
    """U2: no GET changes anything, with the right token."""
    findings = []
    for route in routes(target.app):
        if "GET" not in (route.methods or ()) or route.path in STREAMS:
            continue
        before = tree_hash(target.folder, target.outside), index_of(target)
        answer = target.send("GET", target.url(route), token=TOKEN)
        if answer.status_code >= 500:
            findings.append(f"GET {route.path} fails with {answer.status_code}")
        if (tree_hash(target.folder, target.outside), index_of(target)) != before:
            findings.append(f"GET {route.path} changes something")
    return findings


def cookie_opens(target: Target) -> list[str]:
    """The cookie opens files, and nothing else."""
    findings = []
    cookie = {"cookie": f"{COOKIE}={target.app.state.keys.cookie}"}
    for route in routes(target.app):
        for method in METHODS:
            if route.path in OPEN or (route.path.startswith("/files/") and method in ("GET", "HEAD")):
                continue
            answer = target.send(method, target.url(route), headers=cookie, body={})
            if answer.status_code < 400:
                findings.append(f"{method} {route.path} takes the cookie: {answer.status_code}")
    return findings


def foreign_requests(target: Target) -> list[str]:
    """U4: other origins, other hosts, forms: refused, with the right token, and without effect."""
    findings = []
    before = tree_hash(target.folder, target.outside), index_of(target)
    tries: list[tuple[str, dict[str, str]]] = [
        *(("origin", {"origin": origin}) for origin in ORIGINS),
        *(("site", {"sec-fetch-site": site}) for site in SITES),
        *(("host", {"host": host}) for host in HOSTS),
        *(("form", {"content-type": kind}) for kind in FORMS),
    ]
    body = {"yaml": job_text(target.folder, "planted"), "start": False}
    for route in routes(target.app):
        for method in sorted((route.methods or set()) - {"HEAD"}):
            if route.path in OPEN or route.path in STREAMS:
                continue
            for what, headers in tries:
                if what == "form" and method in ("GET", "DELETE"):
                    continue
                answer = target.send(method, target.url(route), token=TOKEN, headers=headers, body=body)
                if answer.status_code not in (400, 403, 415):
                    findings.append(f"{method} {route.path} with {headers}: {answer.status_code}")
    if (tree_hash(target.folder, target.outside), index_of(target)) != before:
        findings.append("a foreign request has changed something")
    return findings


# One a line; OUT is the folder that must not be reached, SITE the root.
_SPELLINGS = r"""
OUT/secret.txt
/OUT/secret.txt
//OUT/secret.txt
/./OUT/secret.txt
SITE/../outside/secret.txt
../outside
../outside/secret.txt
..
../
../..
/
/etc/passwd
~
~root
~/../../etc/passwd
~nobody/x
file:///etc/passwd
\\host\share
C:\Windows\win.ini
..\..\..\etc\passwd
....//....//etc/passwd
..;/..;/etc/passwd
/proc/self/environ
/dev/zero
/proc/self/root/etc/passwd
link/secret.txt
link
output/../link/secret.txt
CON
aux.txt
NUL
.ui
store/token
../store/token
.trash/x
.
./
a/../../x
${HOME}/x
$HOME/x
%HOME%/x
`id`
$(id)
; id
| id
%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd
%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd
..%00/
..%5c..%5c
%u002e%u002e/
..%ef%bc%8f
"""


def payloads(target: Target) -> list[str]:
    """Names that lead out, spelled in every way that has ever worked somewhere."""
    place = target.outside / "secret.txt"
    deep = [f"{'../' * depth}{place.relative_to('/')}" for depth in range(1, 13)]
    found = _SPELLINGS.strip().replace("OUT", str(target.outside)).replace("SITE", str(target.folder)).split("\n")
    odd = ["x\0.yaml", "\0", "\u202e/x", "\uff0e\uff0e/x", "a" * 300, "\ud800", "\n/etc/passwd", "a/" * 500]
    once = [quote(text, safe="") for text in [*deep[:8], *found[:6]]]
    return [*deep, *found, *odd, *once, *(quote(text, safe="") for text in once[:8])]


def leaks(target: Target) -> list[str]:
    """U3: every payload in every parameter of every route, and in every path of a job: nothing is read or written."""
    findings = []
    before = tree_hash(target.outside)
    for number, route in enumerate(routes(target.app)):
        if route.path in STREAMS or "GET" not in (route.methods or ()):
            continue
        places = [(place, "path") for place in route.dependant.path_params]
        places += [(place, "query") for place in route.dependant.query_params]
        for place, where in places:
            name = place.alias
            for payload in _tried(payloads(target), place, number):
                text = quote(payload.encode("utf-8", "replace"), safe="%/" if "%" in payload else "")
                url = target.url(route, **{name: text}) if where == "path" else f"{target.url(route)}?{name}={text}"
                answer = target.send("GET", url, token=TOKEN)
                findings += _judged(answer, f"GET {route.path} {name}={payload!r}")
    findings += _written(target)
    if tree_hash(target.outside) != before:
        findings.append("the canary's folder has changed")
    return findings


def _tried(every: list[str], place: Any, number: int) -> list[str]:
    """Those for one parameter: all for a text; few for a number, which is refused before a route sees it.

    An id is one of two dozen routes' and is looked up in one place: on a push each of them gets a share of its own.
    """
    if place.field_info.annotation is not str:
        return every[:: len(every) // 3]
    return every if IS_LONG or place.name != "id" else every[number % 3 :: 3]


def _written(target: Target) -> list[str]:
    findings = []
    fields: tuple[tuple[str | int, ...], ...] = (
        ("training_folder",),
        ("name",),
        ("log_dir",),
        ("model", "name_or_path"),
        ("model", "quantize_cache"),
        ("datasets", 0, "folder_path"),
        ("datasets", 0, "control_path"),
        ("sample", "samples", 0, "ctrl_img"),
        ("sample", "samples", 0, "prompt"),
    )
    sound = yaml.safe_load(job_text(target.folder, "planted"))
    for number, payload in enumerate(payloads(target)):
        clean = payload.encode("utf-8", "replace").decode()
        for place in fields if IS_LONG else fields[number % 3 :: 3]:  # one function holds them all against the roots
            job = copy.deepcopy(sound)
            job["config"]["name"] = f"planted_{number}"
            entry = job["config"]["process"][0]
            for part in place[:-1]:
                entry = entry[part]
            entry[place[-1]] = f"a cat --ctrl_img {clean}" if place[-1] == "prompt" else clean
            text = json.dumps(job)  # YAML, too
            says = f"{'.'.join(map(str, place))}={payload!r}"
            findings += _judged(target.send("POST", "/api/jobs", token=TOKEN, body={"yaml": text}), f"job with {says}")
        body = {"training_folder": clean}
        findings += _judged(target.send("PUT", "/api/settings", token=TOKEN, body=body), f"settings with {payload!r}")
        url = f"/api/jobs/{target.job_id}/clone"
        findings += _judged(target.send("POST", url, token=TOKEN, body={"name": clean[:200]}), f"clone {payload!r}")
        made = target.send("POST", "/api/datasets", token=TOKEN, body={"name": clean[:200]})
        findings += _judged(made, f"dataset {payload!r}")
        url = f"/api/datasets/{target.dataset_id}/files/{quote(clean, safe='')}"
        raw = {"content-type": "application/octet-stream"}
        findings += _judged(target.send("PUT", url, token=TOKEN, headers=raw, body="x"), f"upload {payload!r}")
        body = {"filename": clean[:255], "text": "a: 1"}
        findings += _judged(target.send("POST", "/api/import", token=TOKEN, body=body), f"import {payload!r}")
        for body in ({"path": clean[:4096] or "x", "name": "x"}, {"path": "x", "name": clean[:255] or "x"}):
            findings += _judged(target.send("POST", "/api/loras/keep", token=TOKEN, body=body), f"keep {payload!r}")
        body = _tryout(target) | ({"name": clean[:200]} if number % 2 else {"loras": [clean[:4096] or "x"]})
        findings += _judged(target.send("POST", "/api/tryouts", token=TOKEN, body=body), f"try-out {payload!r}")
    roots = target.app.state.services.roots
    for job in target.app.state.services.registry.all():
        if not roots.holds(job.folder) or not job.folder.resolve().is_relative_to(target.folder.resolve()):
            findings.append(f"a job outside the roots was made: {job.folder}")
    return findings


def _tryout(target: Target) -> dict[str, Any]:
    chosen: dict[str, Any] = {"run": target.job_id, "name": "x", "prompts": ["a"], "loras": [], "has_base": True}
    return chosen | {
        "strengths": [1.0],
        "seeds": [1],
        "width": 32,
        "height": 32,
        "sample_steps": 1,
        "guidance_scale": 1.0,
    }


def _judged(answer: Any, what: str) -> list[str]:
    findings = []
    if answer.status_code >= 500:
        findings.append(f"{what} fails with {answer.status_code}")
    if SECRET.encode() in answer.content or b"root:x:0" in answer.content:
        findings.append(f"{what} gives away what is outside")
    return findings


def reflections(target: Target) -> list[str]:
    """U5: text from outside comes back as text: never in a page, and never to be guessed at."""
    findings = []
    attacks = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>")
    for route in routes(target.app):
        if route.path in STREAMS or "GET" not in (route.methods or ()):
            continue
        names = [place.alias for place in route.dependant.query_params]
        for attack in attacks:
            query = "&".join(f"{name}={quote(attack)}" for name in [*names, "q"])
            urls = [f"{target.url(route)}?{query}"]
            urls += [target.url(route, **{place.name: quote(attack, safe="")}) for place in route.dependant.path_params]
            for url in urls:
                answer = target.send("GET", url, token=TOKEN)
                kind = answer.headers.get("content-type", "")
                if attack in answer.text and "json" not in kind:
                    findings.append(f"GET {route.path} gives back {attack} as {kind}")
                if answer.headers.get("x-content-type-options") != "nosniff":
                    findings.append(f"GET {route.path} lets a browser guess")
                if "script" not in answer.headers.get("content-security-policy", ""):
                    findings.append(f"GET {route.path} has no policy")
    return findings


# the last one leaves something behind: the jobs and folders that have innocent names
ATTACKS = (unguarded, changing_gets, cookie_opens, foreign_requests, reflections, leaks)
