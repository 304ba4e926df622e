"""What the processes of a run tell each other beside their training: that they live, and why all must end."""

from __future__ import annotations

import datetime
import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, Self

from toolkit.output.alive import ProcessIdentity, this_process

_FATE, _SAID = "fate", "said"
GONE = "gone"
ANSWER_S = 30.0
"""How long the store may take to answer, in seconds."""


class Store(Protocol):
    """The part of torch.distributed's stores that is used here. Each raises RuntimeError once its host has ended."""

    def set(self, key: str, value: str) -> None:
        """Write a value."""

    def multi_get(self, keys: list[str]) -> list[bytes]:
        """Read values that are there."""

    def wait(self, keys: list[str], timeout: datetime.timedelta) -> None:
        """Return once all of these are there."""

    def check(self, keys: list[str]) -> bool:
        """Whether all of these are there."""

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        """Write a value if there is none, with "" as `expected`. Returns the value that is there now."""


@dataclass(frozen=True)
class Member:
    """One rank, as the others know it.

    Attributes:
        rank: its number.
        host: name of its machine.
        process: identifies its process.
    """

    rank: int
    host: str
    process: ProcessIdentity

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.host}, process {self.process.pid})"


@dataclass(frozen=True)
class Beat:
    """A sign of life.

    Attributes:
        count: one more each time.
        calls: how many calls that all ranks make together this rank has entered.
        place: where in the code it is; `GONE` if it has left on purpose.
    """

    count: int = 0
    calls: int = 0
    place: str = ""


@dataclass(frozen=True)
class Fate:
    """Why a run of several processes ends before its time.

    Attributes:
        text: for the user.
        code: exit code of all processes.
        rank: the rank that it is about.
        is_dead: whether that rank has ended already.
    """

    text: str
    code: int
    rank: int
    is_dead: bool = False


class Board:
    """What is written in a store that all ranks share. Only the thread that watches uses it."""

    def __init__(self, store: Store, rank: int, world: int) -> None:
        self.store = store
        self.rank = rank
        self.world = world
        self._beat = Beat()

    def introduce(self) -> None:
        """Say who this rank is."""
        me = Member(self.rank, socket.gethostname(), this_process())
        self.store.set(f"member/{self.rank}", json.dumps(asdict(me)))
        self.beat(0, "")

    def members(self, *, within_s: float) -> list[Member]:
        """All ranks, once all have introduced themselves.

        Raises:
            RuntimeError: one has not done so in time.
        """
        keys = [f"beat/{rank}" for rank in range(self.world)]
        self.store.wait(keys, datetime.timedelta(seconds=within_s))
        found = [json.loads(text) for text in self._all("member")]
        return [Member(one["rank"], one["host"], ProcessIdentity(**one["process"])) for one in found]

    def beat(self, calls: int, place: str) -> None:
        """Give a sign of life."""
        self._beat = replace(self._beat, count=self._beat.count + 1, calls=calls, place=place)
        self.store.set(f"beat/{self.rank}", json.dumps(asdict(self._beat)))

    def beats(self) -> list[Beat]:
        """The last sign of life of every rank."""
        return [Beat(**json.loads(text)) for text in self._all("beat")]

    def fate(self) -> Fate | None:
        """Why the run must end; None as long as it continues."""
        if not self.store.check([_FATE]):
            return None
        return Fate(**json.loads(self.store.multi_get([_FATE])[0]))

    def seal(self, fate: Fate) -> Fate:
        """End the run, unless another rank has just done so. Returns the fate that counts."""
        return Fate(**json.loads(self.store.compare_set(_FATE, "", json.dumps(asdict(fate)))))

    def may_speak(self) -> bool:
        """Whether this rank is the first that asks to tell the user."""
        return self.store.compare_set(_SAID, "", str(self.rank)).decode() == str(self.rank)

    def has_spoken(self) -> bool:
        """Whether a rank has told the user, or is about to."""
        return self.store.check([_SAID])

    def _all(self, kind: str) -> Sequence[bytes]:
        return self.store.multi_get([f"{kind}/{rank}" for rank in range(self.world)])

    @classmethod
    def connect(cls, address: str, port: int, *, prefix: str, rank: int, world: int) -> Self:
        """A board with a connection of its own: a call that waits on another would hold this one up.

        Raises:
            RuntimeError: nobody hosts the store.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]
        from torch.distributed.distributed_c10d import PrefixStore

        limit = datetime.timedelta(seconds=ANSWER_S)
        store = TCPStore(address, port, is_master=False, timeout=limit, wait_for_workers=False)
        return cls(PrefixStore(f"board{prefix}", store), rank, world)
