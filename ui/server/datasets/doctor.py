"""Checks datasets in a separate process, and keeps the findings."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from toolkit.extension import REPOSITORY
from toolkit.files import sha256_json, write_json
from ui.server.datasets.album import Album
from ui.server.datasets.companions import Companions, report_options
from ui.server.datasets.library import Dataset, Library
from ui.server.jobs.folders import stamp
from ui.server.refusal import Refusal
from ui.server.schemas import Badge, BucketSize, Counted, Doctor, DoctorRequest, FindingKind, Severity
from ui.server.words import clean

_NICE = 10  # what trains comes first
_MOST_LINES = 200
_UNREADABLE = "unreadable"  # the one finding that a training refuses; all others warn


@dataclass
class _Look:
    """A look that is under way or has failed.

    Attributes:
        request: what was asked for.
        done, total: how far it is.
        message: why it failed.
        process: that looks; None while it waits for its turn, and when it has ended.
    """

    request: DoctorRequest
    done: int = 0
    total: int = 0
    message: str = ""
    is_running: bool = True
    process: subprocess.Popen[str] | None = None


@dataclass(frozen=True)
class _Found:
    """What a look has found.

    Attributes:
        request, time: what was asked for, and when.
        fingerprint: of the dataset then.
        report: as `python -m toolkit.data report` writes it.
        badges: by name of a picture.
    """

    request: DoctorRequest
    time: float
    fingerprint: str
    report: dict[str, Any]
    badges: dict[str, list[Badge]] = field(default_factory=dict)


class Doctors:
    """One dataset is looked over at a time; the last findings of each are kept in the store.

    Attributes:
        companions: finds references, masks and counterparts, which are looked for too.
    """

    def __init__(self, store: Path, library: Library) -> None:
        self.folder = store / "doctor"
        self.companions = Companions(library)
        self._looks: dict[str, _Look] = {}
        self._found: dict[str, _Found | None] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._is_closed = False

    def start(self, dataset: Dataset, album: Album, request: DoctorRequest) -> None:
        """Begin to look; nothing if that is under way."""
        with self._lock:
            look = self._looks.get(dataset.id)
            if look is not None and look.is_running:
                return
            look = self._looks[dataset.id] = _Look(request, total=2 * len(album.pictures()))
        threading.Thread(target=self._run, args=(dataset, album, look), name="doctor", daemon=True).start()

    def state(self, dataset: Dataset, album: Album) -> Doctor:
        """What the last look has found, and how far a new one is."""
        look, found = self._looks.get(dataset.id), self._kept(dataset.id)
        request = found.request if found else look.request if look else DoctorRequest()
        report = found.report if found else {}
        one: dict[str, Any] = next(iter(report.get("datasets", [])), {})
        if look is not None and look.is_running:
            state = "running"
        elif look is not None and look.message:
            state = "failed"
        else:
            state = "done" if found else "none"
        kept = one.get("kept", {})
        return Doctor.model_validate(
            {
                "state": state,
                "is_stale": state != "running" and found is not None and found.fingerprint != self._now(dataset, album),
                "done": look.done if look else 0,
                "total": look.total if look else 0,
                "message": clean(look.message) if look else "",
                "time": found.time if found else None,
                "resolution": request.resolution,
                "trigger_word": clean(request.trigger_word),
                "num_images": one.get("num_images", 0),
                "kinds": _kinds(one.get("findings", []), report.get("checks", {})),
                "everywhere": [Counted(text=clean(text), count=count) for text, count in one.get("everywhere", [])],
                "buckets": [BucketSize(width=size[0], height=size[1], count=n) for size, n in one.get("buckets", [])],
                "kept": [kept[key] for key in ("smallest", "middle", "largest")] if kept else [],
                "problems": [clean(_short(text, dataset.folder)) for text in report.get("problems", [])],
                "notices": [clean(_short(text, dataset.folder)) for text in report.get("notices", [])],
            }
        )

    def badges(self, id_: str) -> dict[str, list[Badge]]:
        """What was found, by name of a picture."""
        found = self._kept(id_)
        return found.badges if found else {}

    def resolution(self, id_: str) -> int:
        """The one that was looked for; the usual one before the first look."""
        found = self._kept(id_)
        return (found.request if found else DoctorRequest()).resolution

    def close(self) -> None:
        """End what is under way."""
        self._is_closed = True
        for look in list(self._looks.values()):
            if look.process is not None:
                with contextlib.suppress(OSError):
                    look.process.kill()

    def _run(self, dataset: Dataset, album: Album, look: _Look) -> None:
        with self._turn:
            try:
                if not self._is_closed:
                    before = self._now(dataset, album)
                    report = self._ask(dataset, look, report_options(self.companions.folders(dataset, album)))
                    self._keep(dataset.id, look.request, before, report)
            except Refusal as refusal:  # the folder is gone
                look.message = " ".join(problem.what for problem in refusal.problems)
            except (OSError, ValueError, RuntimeError) as error:
                look.message = str(error) or type(error).__name__
            finally:
                look.is_running, look.process = False, None

    def _now(self, dataset: Dataset, album: Album) -> str:
        """Changes with every picture, every caption, and every folder of references and the like."""
        folders = report_options(self.companions.folders(dataset, album))
        stamps = [(clean(option), stamp(Path(option.partition("=")[2]))) for option in folders]
        return sha256_json([fingerprint(album), stamps]) if folders else fingerprint(album)

    def _ask(self, dataset: Dataset, look: _Look, more: Sequence[str]) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{dataset.id}.report.json"
        target.unlink(missing_ok=True)
        words = [f"--trigger-word={look.request.trigger_word}"] if look.request.trigger_word.strip() else []
        command = [sys.executable, "-m", "toolkit.data", "report", str(dataset.folder), "--json", str(target)]
        command += ["--progress", "--resolution", str(look.request.resolution), *words, *more]
        lines: list[str] = []
        with subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process:
            look.process = process
            with contextlib.suppress(psutil.Error, OSError):
                psutil.Process(process.pid).nice(_NICE)
            assert process.stderr is not None
            for line in process.stderr:
                progress = _progress(line)
                if progress is not None:
                    look.done, look.total = progress
                else:
                    lines = [*lines, line.rstrip()][-_MOST_LINES:]
        try:
            report: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RuntimeError(" ".join(lines[-3:]) or f"it ended with code {process.returncode}") from error
        finally:
            target.unlink(missing_ok=True)
        return report

    def _keep(self, id_: str, request: DoctorRequest, fingerprint_: str, report: dict[str, Any]) -> None:
        found = {"request": request.model_dump(), "time": time.time(), "fingerprint": fingerprint_, "report": report}
        write_json(self.folder / f"{id_}.json", found)
        self._found[id_] = _found(found)

    def _kept(self, id_: str) -> _Found | None:
        if id_ not in self._found:
            found = None
            with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
                found = _found(json.loads((self.folder / f"{id_}.json").read_text(encoding="utf-8")))
            self._found[id_] = found
        return self._found[id_]


def fingerprint(album: Album) -> str:
    """Changes with every picture and every caption."""
    pictures = album.pictures().values()
    return sha256_json([(clean(picture.name), picture.stamp, album.caption(picture).tag) for picture in pictures])


def _found(kept: dict[str, Any]) -> _Found:
    report = kept["report"]
    badges: dict[str, list[Badge]] = {}
    for one in report["datasets"]:
        for finding in one["findings"]:
            if Path(finding["path"]).parent != Path(one["source"]):
                continue  # of a reference in a folder below, which may have the name of its picture
            check = report["checks"][finding["kind"]]
            badge = Badge(
                kind=finding["kind"],
                title=check["title"],
                detail=clean(finding["detail"]),
                severity=_severity(finding["kind"]),
            )
            badges.setdefault(Path(finding["path"]).name, []).append(badge)
    request = DoctorRequest(**kept["request"])
    return _Found(request, float(kept["time"]), str(kept["fingerprint"]), report, badges)


def _kinds(findings: Iterable[dict[str, Any]], checks: dict[str, Any]) -> list[FindingKind]:
    pictures: dict[str, set[str]] = {}
    for finding in findings:
        pictures.setdefault(finding["kind"], set()).add(finding["path"])
    return [
        FindingKind(
            kind=kind,
            title=checks[kind]["title"],
            advice=checks[kind]["advice"],
            severity=_severity(kind),
            count=len(found),
        )
        for kind, found in pictures.items()
    ]


def _severity(kind: str) -> Severity:
    return "error" if kind == _UNREADABLE else "warning"


def _short(text: str, folder: Path) -> str:
    """A line without the folder that the page is about."""
    return text.replace(f"{folder}/", "").removeprefix(f"{folder}: ")


def _progress(line: str) -> tuple[int, int] | None:
    try:
        found = json.loads(line)
        return int(found["done"]), int(found["total"])
    except (ValueError, TypeError, KeyError):
        return None
